//! The kernel's helper macros in print formats: `__print_symbolic`, `__get_str` and their kin.

use super::compile::{Compiler, Kind, Typed, element_type};
use super::ctype::Int;
use super::expr::{Node, Op};
use super::field::Field;
use super::table::Table;
use super::token::{Token, skip_to_close};

impl<'a> Compiler<'a> {
    /// What the helper `name` with the arguments that follow means; stops before the closing bracket.
    pub(super) fn helper(&mut self, name: &str) -> Option<Typed> {
        let long = Int { bits: self.long * 8, signed: false };
        match name {
            "__print_symbolic" | "__print_symbolic_u64" => {
                let of = self.integer()?;
                let table = self.table(of)?;
                self.text(Node::Symbolic { of: of.id, table }, &[of.id])
            }
            "__print_flags" | "__print_flags_u64" => {
                let of = self.integer()?;
                self.need(",")?;
                let delimiter = self.literal()?.into();
                let table = self.table(of)?;
                self.text(Node::Flags { of: of.id, delimiter, table }, &[of.id])
            }
            "__get_str" | "__get_rel_str" | "__get_dynamic_array" | "__get_rel_dynamic_array" => {
                let field = self.named()?;
                let id = self.push(Node::Bytes(field.place()), &[])?;
                Some(Typed { id, kind: Kind::Array(element_type(field)) })
            }
            "__get_dynamic_array_len" | "__get_rel_dynamic_array_len" => {
                let field = self.named()?;
                let id = self.push(Node::Length(field.place()), &[])?;
                Some(Typed { id, kind: Kind::Int(Int::I32) })
            }
            "__get_bitmask" | "__get_rel_bitmask" | "__get_cpumask" | "__get_rel_cpumask" => {
                let field = self.named()?;
                self.text(Node::Bitmask(field.place()), &[])
            }
            "__get_sockaddr" | "__get_rel_sockaddr" | "__get_sockaddr_rel" => {
                let field = self.named()?;
                self.text(Node::SocketAddress(field.place()), &[])
            }
            "__print_hex" | "__print_hex_str" => {
                let array = self.array()?;
                self.need(",")?;
                let count = self.integer()?;
                let gaps = name == "__print_hex";
                self.text(Node::Hex { array: array.id, count: count.id, gaps }, &[array.id, count.id])
            }
            "__print_array" => {
                let array = self.array()?;
                self.need(",")?;
                let count = self.integer()?;
                self.need(",")?;
                let element = self.element_size()?;
                let node = Node::List { array: array.id, count: Some(count.id), element };
                self.text(node, &[array.id, count.id])
            }
            "__print_dynamic_array" => {
                let field = self.named()?;
                self.need(",")?;
                let element = self.element_size()?;
                let array = self.push(Node::Bytes(field.place()), &[])?;
                self.text(Node::List { array, count: None, element }, &[array])
            }
            "__print_ns_to_secs" | "__print_ns_without_secs" => {
                let of = self.integer()?;
                let of = self.convert(of, Int::U64)?;
                let billion = self.constant(1_000_000_000, Int::U64)?;
                let op = if name == "__print_ns_to_secs" { Op::Div } else { Op::Rem };
                let node = Node::Binary { op, a: of.id, b: billion.id, int: Int::U64 };
                let id = self.push(node, &[of.id, billion.id])?;
                Some(Typed { id, kind: Kind::Int(if op == Op::Div { Int::U64 } else { long }) })
            }
            "__builtin_expect" => {
                let value = self.expression()?;
                self.need(",")?;
                self.expression()?;
                Some(value)
            }
            "__builtin_constant_p" => {
                self.at = skip_to_close(self.tokens, self.at) - 1;
                self.constant(0, Int::I32)
            }
            "__builtin_choose_expr" => {
                let test = self.integer()?;
                self.need(",")?;
                let yes = self.expression()?;
                self.need(",")?;
                let no = self.expression()?;
                let Some(Node::Const(value)) = self.nodes.get(test.id) else { return None };
                Some(if *value != 0 { yes } else { no })
            }
            "htons" | "ntohs" | "__swab16" => self.swap(16),
            "htonl" | "ntohl" | "__swab32" => self.swap(32),
            _ => None,
        }
    }

    fn text(&mut self, node: Node, children: &[u32]) -> Option<Typed> {
        let id = self.push(node, children)?;
        Some(Typed { id, kind: Kind::Text })
    }

    /// A field named without `REC->`.
    fn named(&mut self) -> Option<&'a Field> {
        let name = self.word()?;
        self.find(name)
    }

    fn array(&mut self) -> Option<Typed> {
        self.expression().filter(|typed| matches!(typed.kind, Kind::Array(_)))
    }

    /// A constant element size.
    fn element_size(&mut self) -> Option<u8> {
        let size = self.integer()?;
        match self.nodes.get(size.id) {
            Some(Node::Const(size @ (1 | 2 | 4 | 8))) => Some(*size as u8),
            _ => None,
        }
    }

    /// The bytes of a number the other way round. Byte swaps are rare in formats: composed from shifts.
    fn swap(&mut self, bits: u8) -> Option<Typed> {
        let of = self.integer()?;
        let of = self.convert(of, Int { bits, signed: false })?;
        let of = self.may_share(of)?;
        let mut sum = self.constant(0, Int::U32)?;
        for from in (0..bits).step_by(8) {
            let mut part = of;
            for (op, amount) in [(Op::Shr, u64::from(from)), (Op::And, 0xff), (Op::Shl, u64::from(bits - 8 - from))] {
                let amount = self.push(Node::Const(amount), &[])?;
                let id = self.push(Node::Binary { op, a: part.id, b: amount, int: Int::U32 }, &[part.id, amount])?;
                part = Typed { id, kind: Kind::Int(Int::U32) };
            }
            let node = Node::Binary { op: Op::Or, a: sum.id, b: part.id, int: Int::U32 };
            let id = self.push(node, &[sum.id, part.id])?;
            sum = Typed { id, kind: Kind::Int(Int::U32) };
        }
        Some(sum)
    }

    /// `, { number, "name" }, …` up to the closing bracket. An entry whose number or name is not known here, such as
    /// an enumerator that the kernel left by name, is skipped.
    fn table(&mut self, of: Typed) -> Option<Table> {
        let bits = of.int()?.promoted().bits;
        let mut entries = Vec::new();
        while self.eat(",") {
            if matches!(self.peek(), Some(Token::Mark(")"))) {
                break;
            }
            self.need("{")?;
            let start = self.at;
            let nodes = self.nodes.0.len();
            let entry = (|| {
                let number = self.integer()?;
                let Some(Node::Const(value)) = self.nodes.get(number.id) else { return None };
                let value = *value;
                self.need(",")?;
                // Two spellings in one kernel: `{ 1, "x" }` and `{ 1, ("x") }`.
                let wrapped = self.eat("(");
                let name = self.literal()?;
                if wrapped {
                    self.need(")")?;
                }
                self.need("}")?;
                Some((value, String::from_utf8_lossy(&name).into()))
            })();
            self.forget(nodes);
            match entry {
                Some(entry) => entries.push(entry),
                None => self.at = skip_to_close(self.tokens, start),
            }
        }
        Some(Table::new(entries, bits))
    }
}
