//! Expressions of a print format, compiled into a flat list of nodes, and their evaluation.

use super::ctype::Int;
use super::field::{Place, read_int};
use super::table::Table;
use crate::capture::Endian;

/// Index of a node.
pub(super) type Id = u32;

/// Binary operators. Comparisons and logic give an `int`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    And,
    Or,
    Xor,
    Shl,
    Shr,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Both,
    Either,
}

/// A node. Operands always stand before the node that uses them.
#[derive(Debug)]
pub(super) enum Node {
    /// A number.
    Const(u64),
    /// An integer field.
    Field { offset: u16, size: u8, signed: bool },
    /// Element `index` of an array.
    Element { array: Id, element: Int, index: Id },
    /// Length in bytes of what a `__data_loc` or `__rel_loc` field points to.
    Length(Place),
    /// Conversion to a type.
    Fit(Id, Int),
    /// Logical not.
    Not(Id),
    /// `int` is the type in which the operator computes.
    Binary { op: Op, a: Id, b: Id, int: Int },
    /// `test ? yes : no`.
    Choice { test: Id, yes: Id, no: Id },
    /// A string literal.
    Text(Box<[u8]>),
    /// The bytes of a field, or their address.
    Bytes(Place),
    /// `__print_symbolic`.
    Symbolic { of: Id, table: Table },
    /// `__print_flags`.
    Flags { of: Id, delimiter: Box<[u8]>, table: Table },
    /// `__get_bitmask`, `__get_cpumask`.
    Bitmask(Place),
    /// `__print_hex` (with gaps) and `__print_hex_str`.
    Hex { array: Id, count: Id, gaps: bool },
    /// `__print_array`, elements of so many bytes. Without a count, all there are.
    List { array: Id, count: Option<Id>, element: u8 },
    /// `__get_sockaddr`.
    SocketAddress(Place),
}

/// What an expression is evaluated on.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) payload: &'a [u8],
    pub(super) endian: Endian,
}

impl Input<'_> {
    /// An integer field of the record.
    #[inline]
    pub(super) fn int(self, offset: u16, size: u8, signed: bool) -> Option<u64> {
        read_int(self.payload, usize::from(offset), usize::from(size), signed, self.endian)
    }
}

/// The nodes of one event.
#[derive(Debug, Default)]
pub(super) struct Nodes(pub(super) Vec<Node>);

impl Nodes {
    #[inline]
    pub(super) fn get(&self, id: Id) -> Option<&Node> {
        self.0.get(id as usize)
    }

    /// The integer value of a node; `None` where the record is too short, for division by zero, and for text.
    pub(super) fn eval(&self, id: Id, input: Input<'_>) -> Option<u64> {
        Some(match *self.get(id)? {
            Node::Const(value) => value,
            Node::Field { offset, size, signed } => input.int(offset, size, signed)?,
            Node::Fit(of, int) => int.fit(self.eval(of, input)?),
            Node::Not(of) => u64::from(self.eval(of, input)? == 0),
            Node::Binary { op, a, b, int } => {
                let a = self.eval(a, input)?;
                match op {
                    Op::Both if a == 0 => 0,
                    Op::Either if a != 0 => 1,
                    Op::Both | Op::Either => u64::from(self.eval(b, input)? != 0),
                    _ => binary(op, a, self.eval(b, input)?, int)?,
                }
            }
            Node::Choice { test, yes, no } => {
                let chosen = if self.eval(test, input)? != 0 { yes } else { no };
                self.eval(chosen, input)?
            }
            Node::Element { array, element, index } => {
                let bytes = self.bytes(array, input)?;
                let at = usize::try_from(self.eval(index, input)?).ok()?.checked_mul(usize::from(element.size()))?;
                read_int(bytes, at, usize::from(element.size()), element.signed, input.endian)?
            }
            Node::Length(place) => place.bytes(input.payload, input.endian)?.len() as u64,
            // An address, which is never null; its value is not in the record.
            Node::Bytes(_) | Node::Text(_) => 1,
            _ => return None,
        })
    }

    /// The bytes that an array node stands for.
    pub(super) fn bytes<'a>(&self, id: Id, input: Input<'a>) -> Option<&'a [u8]> {
        match *self.get(id)? {
            Node::Bytes(place) => place.bytes(input.payload, input.endian),
            Node::Fit(of, _) => self.bytes(of, input),
            Node::Choice { test, yes, no } => {
                let chosen = if self.eval(test, input)? != 0 { yes } else { no };
                self.bytes(chosen, input)
            }
            _ => None,
        }
    }
}

/// Computes `a op b` in the type `int`.
fn binary(op: Op, a: u64, b: u64, int: Int) -> Option<u64> {
    let (x, y) = (int.fit(a), int.fit(b));
    let less = |a: u64, b: u64| if int.signed { (a as i64) < b as i64 } else { a < b };
    Some(match op {
        Op::Add => int.fit(x.wrapping_add(y)),
        Op::Sub => int.fit(x.wrapping_sub(y)),
        Op::Mul => int.fit(x.wrapping_mul(y)),
        Op::And => x & y,
        Op::Or => x | y,
        Op::Xor => x ^ y,
        Op::Div if int.signed => int.fit((x as i64).checked_div(y as i64)? as u64),
        Op::Rem if int.signed => int.fit((x as i64).checked_rem(y as i64)? as u64),
        Op::Div => x.checked_div(y)?,
        Op::Rem => x.checked_rem(y)?,
        // A shift by the whole width or more has no meaning in C.
        Op::Shl if b < u64::from(int.bits) => int.fit(x << b),
        Op::Shr if b < u64::from(int.bits) => {
            if int.signed {
                ((x as i64) >> b) as u64
            } else {
                x >> b
            }
        }
        Op::Shl | Op::Shr => return None,
        Op::Eq => u64::from(x == y),
        Op::Ne => u64::from(x != y),
        Op::Lt => u64::from(less(x, y)),
        Op::Le => u64::from(!less(y, x)),
        Op::Gt => u64::from(less(y, x)),
        Op::Ge => u64::from(!less(x, y)),
        Op::Both => u64::from(x != 0 && y != 0),
        Op::Either => u64::from(x != 0 || y != 0),
    })
}
