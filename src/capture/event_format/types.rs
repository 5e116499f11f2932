//! Types in expressions: casts, `sizeof`, addresses and elements of arrays.

use super::compile::{Compiler, Kind, Typed};
use super::ctype::{Int, int_type};
use super::expr::Node;
use super::field::Place;
use super::token::Token;

/// A type in a cast or in `sizeof`.
pub(super) struct TypeName {
    /// The type, or what the pointer points to. `None` for a structure or an unknown name.
    pub(super) int: Option<Int>,
    pub(super) pointer: bool,
}

impl Compiler<'_> {
    /// The address of a field is the field's bytes: nothing else in a record has an address.
    pub(super) fn address_of(&mut self, of: Typed) -> Option<Typed> {
        match (of.kind, self.nodes.get(of.id)?) {
            (Kind::Array(_), _) => Some(of),
            (Kind::Int(int), &Node::Field { offset, size, .. }) => {
                let place = Place::Fixed { offset, size: u16::from(size) };
                let id = self.push(Node::Bytes(place), &[])?;
                Some(Typed { id, kind: Kind::Array(int) })
            }
            // `&array[0]` is the array.
            (Kind::Int(_), &Node::Element { array, element, index }) => {
                let first = matches!(self.nodes.get(index), Some(Node::Const(0)));
                first.then_some(Typed { id: array, kind: Kind::Array(element) })
            }
            _ => None,
        }
    }

    pub(super) fn element(&mut self, array: Typed, index: Typed) -> Option<Typed> {
        let Kind::Array(element) = array.kind else { return None };
        index.int()?;
        let node = Node::Element { array: array.id, element, index: index.id };
        let id = self.push(node, &[array.id, index.id])?;
        Some(Typed { id, kind: Kind::Int(element) })
    }

    pub(super) fn cast(&mut self, of: Typed, to: &TypeName) -> Option<Typed> {
        match (of.kind, to.pointer) {
            (Kind::Int(_), true) => self.convert(of, Int { bits: self.long * 8, signed: false }),
            (Kind::Int(_), false) => match to.int {
                Some(int) => self.convert(of, int),
                None => Some(of),
            },
            (Kind::Array(_), true) => {
                let element = to.int.unwrap_or(Int { bits: 8, signed: false });
                Some(Typed { id: of.id, kind: Kind::Array(element) })
            }
            // The number that an address is does not stand in the record.
            (Kind::Array(_), false) => None,
            (Kind::Text, _) => Some(of),
        }
    }

    /// Steps over `(TYPE)` if that comes next and a value follows.
    pub(super) fn cast_type(&mut self) -> Option<TypeName> {
        let start = self.at;
        let parsed = (|| {
            self.need("(")?;
            let name = self.type_name()?;
            self.need(")")?;
            let known = name.int.is_some() || name.pointer;
            // `(X) - 1` is a cast only if X is surely a type.
            let value = match self.peek()? {
                Token::Word(_) | Token::Number(..) | Token::Text(_) => true,
                Token::Mark("(" | "~" | "!") => known || matches!(self.tokens.get(start + 2), Some(Token::Word(_))),
                Token::Mark("-" | "+" | "&" | "*") => known,
                _ => false,
            };
            value.then_some(name)
        })();
        if parsed.is_none() {
            self.at = start;
        }
        parsed
    }

    /// A type name up to the closing bracket: words, then stars.
    pub(super) fn type_name(&mut self) -> Option<TypeName> {
        let start = self.at;
        while matches!(self.peek(), Some(Token::Word(word)) if *word != "REC") {
            self.at += 1;
        }
        let words = self.tokens.get(start..self.at).filter(|words| !words.is_empty())?;
        let int = int_type(
            words.iter().filter_map(|token| if let Token::Word(w) = token { Some(*w) } else { None }),
            self.long,
        );
        let mut pointer = false;
        while self.eat("*") || matches!(self.peek(), Some(Token::Word("const"))) {
            self.at += usize::from(matches!(self.peek(), Some(Token::Word("const"))));
            pointer = true;
        }
        matches!(self.peek(), Some(Token::Mark(")"))).then_some(TypeName { int, pointer })
    }
}
