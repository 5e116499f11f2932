//! Symbolic names of fields, found in the print format.

use super::expr::{Id, Input, Node, Nodes, Op};
use super::field::Field;
use super::table::Table;

/// One table that names a field's values, and when it applies.
#[derive(Debug)]
pub(super) struct SymbolSource {
    /// Index of the field in the event's own fields.
    pub(super) field: usize,
    /// All must hold for this table to be the right one.
    conditions: Vec<Test>,
    /// What is looked up.
    subject: Subject,
    /// The `__print_symbolic` node.
    symbolic: Id,
}

/// A condition. Asked for every exit of a vCPU: the common shape is kept ready.
#[derive(Clone, Debug)]
enum Test {
    /// The field equals the value, or does not.
    Equals { offset: u16, size: u8, signed: bool, value: u64, wanted: bool },
    /// The node is true, or is not.
    Node { id: Id, wanted: bool },
}

/// The number that is looked up; likewise.
#[derive(Debug)]
enum Subject {
    Masked { offset: u16, size: u8, signed: bool, mask: u64 },
    Node(Id),
}

impl Test {
    fn new(nodes: &Nodes, id: Id, wanted: bool) -> Self {
        let general = Self::Node { id, wanted };
        let Some(&Node::Binary { op: op @ (Op::Eq | Op::Ne), a, b, int }) = nodes.get(id) else { return general };
        match (nodes.get(a), nodes.get(b)) {
            // A field as wide as the comparison is compared as it is.
            (Some(&Node::Field { offset, size, signed }), Some(&Node::Const(value)))
                if int.size() > size && !signed || int.size() >= size && int.signed == signed =>
            {
                Self::Equals { offset, size, signed, value: int.fit(value), wanted: (op == Op::Eq) == wanted }
            }
            _ => general,
        }
    }

    #[inline]
    fn holds(&self, nodes: &Nodes, input: Input<'_>) -> Option<bool> {
        match *self {
            Self::Equals { offset, size, signed, value, wanted } => {
                Some((input.int(offset, size, signed)? == value) == wanted)
            }
            Self::Node { id, wanted } => Some((nodes.eval(id, input)? != 0) == wanted),
        }
    }
}

impl Subject {
    fn new(nodes: &Nodes, of: Id) -> Self {
        let field = |id: Id, mask: u64| match nodes.get(id) {
            Some(&Node::Field { offset, size, signed }) => Some(Self::Masked { offset, size, signed, mask }),
            _ => None,
        };
        let quick = match nodes.get(of) {
            Some(&Node::Binary { op: Op::And, a, b, int }) => match nodes.get(b) {
                Some(&Node::Const(mask)) => {
                    // A mask that ends below the sign needs no conversion of the result.
                    let mask = int.fit(mask);
                    field(a, mask).filter(|_| mask >> (int.bits - 1) == 0)
                }
                _ => None,
            },
            _ => field(of, u64::MAX),
        };
        quick.unwrap_or(Self::Node(of))
    }

    #[inline]
    fn value(&self, nodes: &Nodes, input: Input<'_>) -> Option<u64> {
        match *self {
            Self::Masked { offset, size, signed, mask } => Some(input.int(offset, size, signed)? & mask),
            Self::Node(id) => nodes.eval(id, input),
        }
    }
}

impl SymbolSource {
    /// The name of the value in this record, if this table applies to it.
    #[inline]
    pub(super) fn find<'a>(&self, nodes: &'a Nodes, input: Input<'_>) -> Option<&'a str> {
        for test in &self.conditions {
            if !test.holds(nodes, input)? {
                return None;
            }
        }
        self.table(nodes)?.find(self.subject.value(nodes, input)?)
    }

    /// Its table.
    #[inline]
    pub(super) fn table<'a>(&self, nodes: &'a Nodes) -> Option<&'a Table> {
        match nodes.get(self.symbolic) {
            Some(Node::Symbolic { table, .. }) => Some(table),
            _ => None,
        }
    }
}

/// All tables of `__print_symbolic` whose expression reads exactly one field, in the order of the arguments.
pub(super) fn sources(nodes: &Nodes, arguments: impl Iterator<Item = Id>, fields: &[Field]) -> Vec<SymbolSource> {
    let mut list = Vec::new();
    for argument in arguments {
        collect(nodes, argument, &mut Vec::new(), fields, &mut list);
    }
    list
}

fn collect(nodes: &Nodes, id: Id, conditions: &mut Vec<Test>, fields: &[Field], list: &mut Vec<SymbolSource>) {
    match nodes.get(id) {
        Some(&Node::Choice { test, yes, no }) => {
            for (branch, wanted) in [(yes, true), (no, false)] {
                conditions.push(Test::new(nodes, test, wanted));
                collect(nodes, branch, conditions, fields, list);
                conditions.pop();
            }
        }
        Some(&Node::Symbolic { of, .. }) => {
            let mut read = Vec::new();
            offsets(nodes, of, &mut read);
            read.sort_unstable();
            read.dedup();
            let [offset] = read.as_slice() else { return };
            if let Some(field) = fields.iter().position(|field| field.offset == *offset) {
                let subject = Subject::new(nodes, of);
                list.push(SymbolSource { field, conditions: conditions.clone(), subject, symbolic: id });
            }
        }
        _ => {}
    }
}

/// Offsets of all fields that an expression reads.
fn offsets(nodes: &Nodes, id: Id, found: &mut Vec<u16>) {
    match nodes.get(id) {
        Some(&Node::Field { offset, .. }) => found.push(offset),
        Some(&(Node::Fit(of, _) | Node::Not(of))) => offsets(nodes, of, found),
        Some(&Node::Binary { a, b, .. }) => {
            offsets(nodes, a, found);
            offsets(nodes, b, found);
        }
        Some(&Node::Choice { test, yes, no }) => [test, yes, no].into_iter().for_each(|id| offsets(nodes, id, found)),
        Some(Node::Const(_)) => {}
        // Anything else reads more than plain fields: such an expression names no field.
        _ => found.extend([u16::MAX, u16::MAX - 1]),
    }
}
