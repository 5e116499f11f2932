//! Symbolic names of fields, found in the print format.

use super::expr::{Id, Input, Node, Nodes};
use super::field::Field;
use super::table::Table;

/// One table that names a field's values, and when it applies.
#[derive(Debug)]
pub(super) struct SymbolSource {
    /// Index of the field in the event's own fields.
    pub(super) field: usize,
    /// Conditions, and what they must be, for this table to be the right one.
    conditions: Vec<(Id, bool)>,
    /// The `__print_symbolic` node.
    symbolic: Id,
}

impl SymbolSource {
    /// The name of the value in this record, if this table applies to it.
    #[inline]
    pub(super) fn find<'a>(&self, nodes: &'a Nodes, input: Input<'_>) -> Option<&'a str> {
        for (test, wanted) in &self.conditions {
            if (nodes.eval(*test, input)? != 0) != *wanted {
                return None;
            }
        }
        let Some(Node::Symbolic { of, table }) = nodes.get(self.symbolic) else { return None };
        table.find(nodes.eval(*of, input)?)
    }

    /// Its table.
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

fn collect(nodes: &Nodes, id: Id, conditions: &mut Vec<(Id, bool)>, fields: &[Field], list: &mut Vec<SymbolSource>) {
    match nodes.get(id) {
        Some(&Node::Choice { test, yes, no }) => {
            for (branch, wanted) in [(yes, true), (no, false)] {
                conditions.push((test, wanted));
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
                list.push(SymbolSource { field, conditions: conditions.clone(), symbolic: id });
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
