//! A compiled print format and its rendering.

use super::PrintContext;
use super::compile::{Compiler, Kind};
use super::ctype::Int;
use super::expr::{Id, Input, Node, Nodes};
use super::field::{Field, until_nul};
use super::pointer;
use super::printf::{self, Conversion, Length, Pieces, Size, Spec};
use super::symbol::{self, SymbolSource};
use super::token::{Token, skip_to_close, tokens};

/// A print format, compiled.
#[derive(Debug, Default)]
pub(super) struct Program {
    /// `None`: not understood, or none.
    template: Option<Template>,
    pub(super) nodes: Nodes,
    pub(super) symbols: Vec<SymbolSource>,
    /// Size of `long` in the kernel that wrote the format.
    pub(super) long: u8,
}

#[derive(Debug)]
struct Template {
    text: Box<[u8]>,
    pieces: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal { start: usize, end: usize },
    Conversion { spec: Spec, width: Option<Id>, precision: Option<Id>, argument: Option<Id>, fit: Option<Int> },
}

/// One argument. `id` is `None` for an expression that is not understood.
#[derive(Clone, Copy)]
struct Argument {
    id: Option<Id>,
    kind: Kind,
}

impl Program {
    /// Compiles the text behind `print fmt:`. An argument that is not understood costs that argument; if most are
    /// not, or the format string itself, the template is left out.
    pub(super) fn compile(text: &str, common: &[Field], fields: &[Field], long: u8) -> Self {
        let mut program = Self { long, ..Self::default() };
        let Some(list) = tokens(text) else { return program };
        let mut compiler = Compiler::new(&list, common, fields, long);
        let Some(format) = compiler.literal() else { return program };
        let arguments = arguments(&mut compiler);
        program.nodes = compiler.nodes;
        program.symbols = symbol::sources(&program.nodes, arguments.iter().filter_map(|a| a.id), fields);
        let unknown = arguments.iter().filter(|argument| argument.id.is_none()).count();
        if unknown == 0 || unknown * 2 < arguments.len() {
            program.template = Template::new(format, &arguments, long);
        }
        program
    }

    /// Whether records are rendered by the print format.
    pub(super) fn renders(&self) -> bool {
        self.template.is_some()
    }

    /// Appends the rendered record; false, and nothing appended, if there is no usable print format.
    pub(super) fn render(&self, input: Input<'_>, context: &PrintContext<'_>, out: &mut Vec<u8>) -> bool {
        let Some(template) = &self.template else { return false };
        for part in &template.pieces {
            match *part {
                Part::Literal { start, end } => out.extend_from_slice(template.text.get(start..end).unwrap_or(&[])),
                Part::Conversion { spec, width, precision, argument, fit } => {
                    let number = |id: Option<Id>| id.and_then(|id| self.nodes.eval(id, input));
                    let width = Self::size(spec.width, number(width));
                    let precision = Self::size(spec.precision, number(precision));
                    self.convert(&spec, width, precision, argument, fit, input, context, out);
                }
            }
        }
        true
    }

    fn size(size: Size, argument: Option<u64>) -> Option<usize> {
        match size {
            Size::None => None,
            Size::Fixed(value) => Some(usize::from(value)),
            Size::Argument => argument.map(|value| usize::try_from(value as i32).unwrap_or(0)),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn convert(
        &self,
        spec: &Spec,
        width: Option<usize>,
        precision: Option<usize>,
        argument: Option<Id>,
        fit: Option<Int>,
        input: Input<'_>,
        context: &PrintContext<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        let Some(id) = argument else { return out.push(b'?') };
        match spec.conversion {
            Conversion::Text => {
                self.text(id, input, context, out);
                if let Some(limit) = precision {
                    out.truncate(start.saturating_add(limit).min(out.len()));
                }
                printf::pad(start, width.unwrap_or(0), spec.style.left, out);
            }
            Conversion::Char => {
                match self.nodes.eval(id, input) {
                    Some(value) => out.push(value as u8),
                    None => out.push(b'?'),
                }
                printf::pad(start, width.unwrap_or(0), spec.style.left, out);
            }
            Conversion::Pointer(letters) => {
                let what = match self.nodes.bytes(id, input) {
                    Some(bytes) => pointer::Target::Bytes(bytes),
                    None => match self.nodes.eval(id, input) {
                        Some(address) => pointer::Target::Address(address),
                        None => return out.push(b'?'),
                    },
                };
                pointer::write(what, letters, width, self.long, input.endian, context, out);
                printf::pad(
                    start,
                    if letters[0] == b'h' || letters[0] == b'b' { 0 } else { width.unwrap_or(0) },
                    spec.style.left,
                    out,
                );
            }
            conversion => match (self.nodes.eval(id, input), fit) {
                (Some(value), Some(fit)) => {
                    printf::number(fit.fit(value), conversion, spec.style, width.unwrap_or(0), precision, out);
                }
                _ => out.push(b'?'),
            },
        }
    }

    /// Appends what `%s` shows for a node.
    fn text(&self, id: Id, input: Input<'_>, context: &PrintContext<'_>, out: &mut Vec<u8>) {
        let Some(node) = self.nodes.get(id) else { return };
        let done = match node {
            Node::Text(text) => {
                out.extend_from_slice(text);
                Some(())
            }
            Node::Bytes(place) => place.bytes(input.payload, input.endian).map(|b| out.extend_from_slice(until_nul(b))),
            Node::Choice { test, yes, no } => self.nodes.eval(*test, input).map(|test| {
                self.text(if test != 0 { *yes } else { *no }, input, context, out);
            }),
            Node::Symbolic { of, table } => self.nodes.eval(*of, input).map(|value| match table.find(value) {
                Some(name) => out.extend_from_slice(name.as_bytes()),
                None => printf::hex(value, out),
            }),
            Node::Flags { of, delimiter, table } => {
                self.nodes.eval(*of, input).map(|value| flags(value, delimiter, table, out))
            }
            Node::Bitmask(place) => place
                .bytes(input.payload, input.endian)
                .map(|bytes| pointer::bitmap(bytes, bytes.len() * 8, self.long, input.endian, out)),
            Node::Hex { array, count, gaps } => self.limited(*array, Some(*count), 1, input).map(|bytes| {
                pointer::hex_bytes(bytes, if *gaps { Some(b' ') } else { None }, out);
            }),
            Node::List { array, count, element } => self
                .limited(*array, *count, *element, input)
                .map(|bytes| pointer::hex_list(bytes, *element, input.endian, out)),
            Node::SocketAddress(place) => {
                place.bytes(input.payload, input.endian).map(|bytes| pointer::socket_address(bytes, input.endian, out))
            }
            // A pointer to text outside the record.
            _ => self.nodes.eval(id, input).map(|address| match context.printk_text(address) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => printf::hex(address, out),
            }),
        };
        if done.is_none() {
            out.push(b'?');
        }
    }

    /// The first `count` elements of an array.
    fn limited<'a>(&self, array: Id, count: Option<Id>, element: u8, input: Input<'a>) -> Option<&'a [u8]> {
        let bytes = self.nodes.bytes(array, input)?;
        let wanted = match count {
            Some(count) => usize::try_from(self.nodes.eval(count, input)?).ok()?.saturating_mul(usize::from(element)),
            None => bytes.len(),
        };
        bytes.get(..wanted.min(bytes.len()))
    }
}

/// Names of the masks that are fully set, then the remaining bits.
fn flags(value: u64, delimiter: &[u8], table: &super::table::Table, out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = value;
    let separate = |out: &mut Vec<u8>| {
        if out.len() > start {
            out.extend_from_slice(delimiter);
        }
    };
    for (mask, name) in table.entries() {
        if mask == 0 && value == 0 {
            out.extend_from_slice(name.as_bytes());
            return;
        }
        if mask != 0 && rest & mask == mask {
            separate(out);
            out.extend_from_slice(name.as_bytes());
            rest &= !mask;
        }
    }
    if rest != 0 {
        separate(out);
        printf::hex(rest, out);
    }
}

impl Template {
    fn new(text: Vec<u8>, arguments: &[Argument], long: u8) -> Option<Self> {
        let mut next = arguments.iter();
        let mut pieces = Vec::new();
        for piece in Pieces::new(&text) {
            pieces.push(match piece {
                printf::Piece::Literal(start, end) => Part::Literal { start, end },
                printf::Piece::Spec(spec) => {
                    let mut star = |size: Size| match size {
                        Size::Argument => next.next().map(|argument| argument.id),
                        _ => Some(None),
                    };
                    let (width, precision) = (star(spec.width)?, star(spec.precision)?);
                    let argument = next.next()?;
                    let fit = int_of(&spec, argument.kind, long);
                    // A number conversion of text, or of an address that is not in the record.
                    let wrong = fit.is_none() && !matches!(spec.conversion, Conversion::Text | Conversion::Pointer(_));
                    Part::Conversion { spec, width, precision, argument: argument.id.filter(|_| !wrong), fit }
                }
            });
        }
        Some(Self { text: text.into(), pieces })
    }
}

/// The type to which a conversion converts its argument; `None` for what is no integer.
fn int_of(spec: &Spec, kind: Kind, long: u8) -> Option<Int> {
    let Kind::Int(_) = kind else { return None };
    let signed = spec.conversion == Conversion::Signed;
    let bits = match spec.length {
        Length::Char => 8,
        Length::Short => 16,
        Length::Int => 32,
        Length::Long => long * 8,
        Length::LongLong => 64,
    };
    Some(Int { bits, signed })
}

/// All arguments behind the format string. One that is not understood is stepped over.
fn arguments(compiler: &mut Compiler<'_>) -> Vec<Argument> {
    let mut list = Vec::new();
    while compiler.eat(",") {
        let (start, nodes) = (compiler.at, compiler.nodes.0.len());
        let typed = compiler.expression();
        let ended = matches!(compiler.peek(), None | Some(Token::Mark(",")));
        match typed.filter(|_| ended) {
            Some(typed) => list.push(Argument { id: Some(typed.id), kind: typed.kind }),
            None => {
                compiler.forget(nodes);
                compiler.at = start;
                while let Some(token) = compiler.peek() {
                    match token {
                        Token::Mark(",") => break,
                        Token::Mark("(" | "[" | "{") => compiler.at = skip_to_close(compiler.tokens, compiler.at + 1),
                        _ => compiler.at += 1,
                    }
                }
                list.push(Argument { id: None, kind: Kind::Text });
            }
        }
    }
    list
}
