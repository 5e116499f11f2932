//! A recursive-descent compiler for the C expressions of a print format.

use super::ctype::Int;
use super::expr::{Id, Input, Node, Nodes, Op};
use super::field::{Field, FieldKind};
use super::token::Token;
use crate::capture::Endian;

/// Greatest height of an expression's tree.
const MAX_DEPTH: u8 = 64;
/// Deepest nesting while parsing: a bracket costs two levels.
const MAX_NESTING: u8 = 2 * MAX_DEPTH;

/// What an expression is, known before any record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An integer or a pointer.
    Int(Int),
    /// An array in the record, of elements of this type.
    Array(Int),
    /// Text.
    Text,
}

/// A compiled expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Typed {
    pub(super) id: Id,
    pub(super) kind: Kind,
}

impl Typed {
    pub(super) fn int(self) -> Option<Int> {
        match self.kind {
            Kind::Int(int) => Some(int),
            _ => None,
        }
    }
}

/// The state of compiling one print format.
pub(super) struct Compiler<'a> {
    pub(super) tokens: &'a [Token<'a>],
    pub(super) at: usize,
    pub(super) common: &'a [Field],
    pub(super) fields: &'a [Field],
    /// Size of `long` in the kernel that wrote the format.
    pub(super) long: u8,
    pub(super) nodes: Nodes,
    /// Height of the tree under each node.
    heights: Vec<u8>,
    depth: u8,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(tokens: &'a [Token<'a>], common: &'a [Field], fields: &'a [Field], long: u8) -> Self {
        Self { tokens, at: 0, common, fields, long, nodes: Nodes::default(), heights: Vec::new(), depth: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    fn peek_at(&self, ahead: usize) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at + ahead)
    }

    /// Steps over `mark` if it comes next.
    pub(super) fn eat(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Mark(next)) if *next == mark);
        self.at += usize::from(found);
        found
    }

    pub(super) fn need(&mut self, mark: &str) -> Option<()> {
        self.eat(mark).then_some(())
    }

    pub(super) fn word(&mut self) -> Option<&'a str> {
        let Some(Token::Word(word)) = self.peek() else { return None };
        self.at += 1;
        Some(word)
    }

    /// Adds a node. `children` are the nodes it uses.
    pub(super) fn push(&mut self, node: Node, children: &[Id]) -> Option<Id> {
        let below = children.iter().filter_map(|id| self.heights.get(*id as usize)).max().copied().unwrap_or(0);
        if below >= MAX_DEPTH {
            return None;
        }
        let id = Id::try_from(self.nodes.0.len()).ok()?;
        self.nodes.0.push(node);
        self.heights.push(below + 1);
        Some(id)
    }

    /// Removes all nodes from `count` on.
    pub(super) fn forget(&mut self, count: usize) {
        self.nodes.0.truncate(count);
        self.heights.truncate(count);
    }

    /// Adds a node, computed now if all it uses is constant.
    fn push_int(&mut self, node: Node, children: &[Id], int: Int) -> Option<Typed> {
        let constant = children.iter().all(|id| matches!(self.nodes.get(*id), Some(Node::Const(_))));
        let mut id = self.push(node, children)?;
        if constant {
            let empty = Input { payload: &[], endian: Endian::Little };
            if let Some(value) = self.nodes.eval(id, empty) {
                // The operands are mostly the last nodes: forget them.
                let first = children.iter().min().copied().unwrap_or(id);
                if (id - first) as usize == children.len() {
                    self.forget(first as usize);
                }
                id = self.push(Node::Const(value), &[])?;
            }
        }
        Some(Typed { id, kind: Kind::Int(int) })
    }

    /// A constant.
    pub(super) fn constant(&mut self, value: u64, int: Int) -> Option<Typed> {
        self.push_int(Node::Const(value), &[], int)
    }

    /// `of` converted to `int`.
    pub(super) fn convert(&mut self, of: Typed, int: Int) -> Option<Typed> {
        match of.kind {
            Kind::Int(now) if now == int => Some(of),
            Kind::Int(_) => self.push_int(Node::Fit(of.id, int), &[of.id], int),
            _ => None,
        }
    }

    /// An expression as it stands between commas.
    pub(super) fn expression(&mut self) -> Option<Typed> {
        if self.depth >= MAX_NESTING {
            return None;
        }
        self.depth += 1;
        let result = self.choice();
        self.depth -= 1;
        result
    }

    /// An expression that must be an integer.
    pub(super) fn integer(&mut self) -> Option<Typed> {
        self.expression().filter(|typed| matches!(typed.kind, Kind::Int(_)))
    }

    /// A node that is to be evaluated more than once: only a low one, or the cost would double at every level.
    pub(super) fn may_share(&self, typed: Typed) -> Option<Typed> {
        self.heights.get(typed.id as usize).is_some_and(|height| *height <= 4).then_some(typed)
    }

    fn choice(&mut self) -> Option<Typed> {
        let test = self.operators(0)?;
        if !self.eat("?") {
            return Some(test);
        }
        // `a ?: b` is `a ? a : b`.
        let yes = if self.eat(":") {
            self.may_share(test)?
        } else {
            let yes = self.expression()?;
            self.need(":")?;
            yes
        };
        let no = self.expression()?;
        let kind = match (yes.kind, no.kind) {
            (Kind::Int(a), Kind::Int(b)) => Kind::Int(a.common(b)),
            (Kind::Array(a), Kind::Array(b)) if a == b => Kind::Array(a),
            _ => Kind::Text,
        };
        let (mut yes, mut no) = (yes, no);
        if let Kind::Int(int) = kind {
            (yes, no) = (self.convert(yes, int)?, self.convert(no, int)?);
        }
        let node = Node::Choice { test: test.id, yes: yes.id, no: no.id };
        let id = self.push(node, &[test.id, yes.id, no.id])?;
        Some(Typed { id, kind })
    }

    /// Binary operators that bind at least as tightly as `level`.
    fn operators(&mut self, level: u8) -> Option<Typed> {
        let mut a = self.unary()?;
        while let Some((op, tightness)) = self.peek().and_then(operator).filter(|(_, tightness)| *tightness >= level) {
            self.at += 1;
            let b = self.operators(tightness + 1)?;
            a = self.combine(op, a, b)?;
        }
        Some(a)
    }

    fn combine(&mut self, op: Op, a: Typed, b: Typed) -> Option<Typed> {
        let (int, result) = match op {
            // Truths may also be asked of addresses.
            Op::Both | Op::Either => (Int::U64, Int::I32),
            Op::Shl | Op::Shr => {
                let int = a.int()?.promoted();
                b.int()?;
                (int, int)
            }
            Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => (a.int()?.common(b.int()?), Int::I32),
            _ => {
                let int = a.int()?.common(b.int()?);
                (int, int)
            }
        };
        self.push_int(Node::Binary { op, a: a.id, b: b.id, int }, &[a.id, b.id], result)
    }

    fn unary(&mut self) -> Option<Typed> {
        if self.depth >= MAX_NESTING {
            return None;
        }
        self.depth += 1;
        let result = self.unary_inner();
        self.depth -= 1;
        result
    }

    fn unary_inner(&mut self) -> Option<Typed> {
        match self.peek()? {
            Token::Mark("!") => {
                self.at += 1;
                let of = self.unary()?;
                self.push_int(Node::Not(of.id), &[of.id], Int::I32)
            }
            Token::Mark("-") => {
                self.at += 1;
                let of = self.unary()?;
                let zero = self.constant(0, Int::I32)?;
                let int = of.int()?.promoted();
                self.push_int(Node::Binary { op: Op::Sub, a: zero.id, b: of.id, int }, &[zero.id, of.id], int)
            }
            Token::Mark("~") => {
                self.at += 1;
                let of = self.unary()?;
                let ones = self.constant(u64::MAX, Int::I32)?;
                let int = of.int()?.promoted();
                self.push_int(Node::Binary { op: Op::Xor, a: of.id, b: ones.id, int }, &[of.id, ones.id], int)
            }
            Token::Mark("+") => {
                self.at += 1;
                self.unary()
            }
            Token::Mark("&") => {
                self.at += 1;
                let of = self.unary()?;
                self.address_of(of)
            }
            Token::Mark("*") => {
                self.at += 1;
                let of = self.unary()?;
                let index = self.constant(0, Int::I32)?;
                self.element(of, index)
            }
            Token::Mark("(") => match self.cast_type() {
                Some(to) => {
                    let of = self.unary()?;
                    self.cast(of, &to)
                }
                None => self.postfix(),
            },
            Token::Word("sizeof") => {
                self.at += 1;
                self.need("(")?;
                let name = self.type_name()?;
                self.need(")")?;
                let size = if name.pointer { self.long } else { name.int?.size() };
                self.constant(u64::from(size), Int { bits: self.long * 8, signed: false })
            }
            _ => self.postfix(),
        }
    }

    fn postfix(&mut self) -> Option<Typed> {
        let mut value = self.primary()?;
        while self.eat("[") {
            let index = self.integer()?;
            self.need("]")?;
            value = self.element(value, index)?;
        }
        // Members of a structure cannot be found: the format does not say where they lie.
        if matches!(self.peek(), Some(Token::Mark("." | "->"))) { None } else { Some(value) }
    }

    fn primary(&mut self) -> Option<Typed> {
        match self.peek()? {
            Token::Number(value, int) => {
                self.at += 1;
                self.constant(*value, *int)
            }
            Token::Text(_) => {
                let id = self.literal()?;
                let id = self.push(Node::Text(id.into()), &[])?;
                Some(Typed { id, kind: Kind::Text })
            }
            Token::Word("REC") => {
                self.at += 1;
                self.record_field()
            }
            Token::Word(name) => {
                self.at += 1;
                self.need("(")?;
                let value = self.helper(name)?;
                self.need(")")?;
                Some(value)
            }
            Token::Mark("(") => {
                let is_record = matches!(self.peek_at(1), Some(Token::Word("REC")))
                    && matches!(self.peek_at(2), Some(Token::Mark(")")));
                if is_record {
                    self.at += 3;
                    return self.record_field();
                }
                self.at += 1;
                let value = self.expression()?;
                self.need(")")?;
                Some(value)
            }
            Token::Mark(_) => None,
        }
    }

    /// String literals side by side are one.
    pub(super) fn literal(&mut self) -> Option<Vec<u8>> {
        let Some(Token::Text(first)) = self.peek() else { return None };
        let mut text = first.clone();
        self.at += 1;
        while let Some(Token::Text(more)) = self.peek() {
            text.extend_from_slice(more);
            self.at += 1;
        }
        Some(text)
    }

    /// `->name` behind `REC`.
    fn record_field(&mut self) -> Option<Typed> {
        self.need("->")?;
        let name = self.word()?;
        let field = self.find(name)?;
        let (node, kind) = match field.kind {
            FieldKind::Number | FieldKind::Pointer | FieldKind::Bool => {
                let int = Int::of_size(field.size, field.signed)?;
                (Node::Field { offset: field.offset, size: int.size(), signed: int.signed }, Kind::Int(int))
            }
            _ => (Node::Bytes(field.place()), Kind::Array(element_type(field))),
        };
        let id = self.push(node, &[])?;
        Some(Typed { id, kind })
    }

    /// A field by name, own before common.
    pub(super) fn find(&self, name: &str) -> Option<&'a Field> {
        self.fields.iter().chain(self.common).find(|field| &*field.name == name)
    }
}

/// Type of an element of an array field.
pub(super) fn element_type(field: &Field) -> Int {
    match field.kind {
        FieldKind::Array { element } | FieldKind::DynamicArray { element } | FieldKind::RelativeArray { element } => {
            Int::of_size(u16::from(element), field.signed).unwrap_or(Int { bits: 8, signed: false })
        }
        _ => Int { bits: 8, signed: true },
    }
}

/// A binary operator and how tightly it binds.
fn operator(token: &Token<'_>) -> Option<(Op, u8)> {
    let Token::Mark(mark) = token else { return None };
    Some(match *mark {
        "||" => (Op::Either, 1),
        "&&" => (Op::Both, 2),
        "|" => (Op::Or, 3),
        "^" => (Op::Xor, 4),
        "&" => (Op::And, 5),
        "==" => (Op::Eq, 6),
        "!=" => (Op::Ne, 6),
        "<" => (Op::Lt, 7),
        "<=" => (Op::Le, 7),
        ">" => (Op::Gt, 7),
        ">=" => (Op::Ge, 7),
        "<<" => (Op::Shl, 8),
        ">>" => (Op::Shr, 8),
        "+" => (Op::Add, 9),
        "-" => (Op::Sub, 9),
        "*" => (Op::Mul, 10),
        "/" => (Op::Div, 10),
        "%" => (Op::Rem, 10),
        _ => return None,
    })
}
