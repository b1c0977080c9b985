//! Values while a rule runs: borrowed from the message or from the arena of this evaluation, never owned.

use std::any::Any;
use std::cell::Cell;

use bumpalo::Bump;
use typed_arena::Arena;

use super::needs::Needs;
use super::schema::{Class, ClassId, schema};
use super::truth::Truth;
use crate::policy::lists::NamedList;

/// One value. `Truth` is a boolean or null or anything in between; every other null is `Null`.
#[derive(Clone, Copy)]
pub(super) enum Value<'m> {
    Unavailable(Needs),
    Null,
    Truth(Truth, Needs),
    Int(i64),
    Float(f64),
    Text(&'m str),
    Array(&'m [Value<'m>]),
    /// A `$list`, not copied.
    List(&'m NamedList),
    Map(&'m [(&'m str, Value<'m>)]),
    Object(&'m Object<'m>),
}

/// What stands behind an object: computes a field when it is first asked for.
pub(super) trait Source<'m> {
    /// The value of the field of that name. Names the class does not have are never asked for.
    fn field(&self, name: &'static str, store: &'m Store) -> Value<'m>;

    /// The bytes behind it, for functions that take a file.
    fn as_any(&self) -> Option<&'m dyn Any> {
        None
    }
}

/// An object of a class of the model.
pub(super) struct Object<'m> {
    pub(super) class: ClassId,
    source: &'m (dyn Source<'m> + 'm),
    fields: &'m [Cell<Option<Value<'m>>>],
}

impl<'m> Object<'m> {
    pub(super) fn source(&self) -> &'m (dyn Source<'m> + 'm) {
        self.source
    }

    pub(super) fn class(&self) -> &'static Class {
        &schema().classes[self.class.0]
    }

    /// The field at that place of the class.
    pub(super) fn get(&self, index: usize, store: &'m Store) -> Value<'m> {
        let Some(cell) = self.fields.get(index) else { return Value::Null };
        if let Some(value) = cell.get() {
            return value;
        }
        let value = self.source.field(self.class().fields[index].name, store);
        cell.set(Some(value));
        value
    }

    /// The field of that name; null when the class has none.
    pub(super) fn named(&self, name: &str, store: &'m Store) -> Value<'m> {
        self.class().place(name).map_or(Value::Null, |index| self.get(index, store))
    }
}

/// Where everything lives that an evaluation makes.
#[derive(Default)]
pub(super) struct Store {
    bump: Bump,
    kept: Arena<Box<dyn Any>>,
}

impl Store {
    pub(super) fn text(&self, text: &str) -> &mut str {
        self.bump.alloc_str(text)
    }

    pub(super) fn array<'m>(&'m self, items: impl IntoIterator<Item = Value<'m>>) -> Value<'m> {
        Value::Array(bumpalo::collections::Vec::from_iter_in(items, &self.bump).into_bump_slice())
    }

    pub(super) fn texts<'m, S: AsRef<str>>(&'m self, items: impl IntoIterator<Item = S>) -> Value<'m> {
        self.array(items.into_iter().map(|item| Value::Text(self.text(item.as_ref()))))
    }

    pub(super) fn map<'m>(&'m self, items: impl IntoIterator<Item = (&'m str, Value<'m>)>) -> Value<'m> {
        Value::Map(bumpalo::collections::Vec::from_iter_in(items, &self.bump).into_bump_slice())
    }

    pub(super) fn cells<'m>(&'m self, count: usize) -> &'m [Cell<Option<Value<'m>>>] {
        self.bump.alloc_slice_fill_with(count, |_| Cell::new(None))
    }

    pub(super) fn copy(&self, numbers: &[u32]) -> &[u32] {
        self.bump.alloc_slice_copy(numbers)
    }

    /// Keeps something that owns memory until the evaluation is over.
    pub(super) fn keep<T: 'static>(&self, thing: T) -> &T {
        let kept: &dyn Any = &**self.kept.alloc(Box::new(thing));
        match kept.downcast_ref() {
            Some(thing) => thing,
            // The type is the one that was boxed a line above.
            None => unreachable!(),
        }
    }

    /// An object of that class. The source owns no memory: it is never dropped.
    pub(super) fn object<'m, S: Source<'m> + 'm>(&'m self, class: ClassId, source: S) -> Value<'m> {
        let count = schema().classes[class.0].fields.len();
        let fields = self.bump.alloc_slice_fill_with(count, |_| Cell::new(None));
        Value::Object(self.bump.alloc(Object { class, source: self.bump.alloc(source), fields }))
    }

    /// Bytes taken so far.
    pub(super) fn size_bytes(&self) -> usize {
        self.bump.allocated_bytes()
    }
}

impl<'m> Value<'m> {
    pub(super) fn bool(is: bool) -> Self {
        Self::Truth(is.into(), Needs::NONE)
    }

    pub(super) fn text_or_null(text: Option<&'m str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }

    pub(super) fn int_or_null(n: Option<i64>) -> Self {
        n.map_or(Self::Null, Self::Int)
    }

    pub(super) fn bool_or_null(is: Option<bool>) -> Self {
        is.map_or(Self::Null, Self::bool)
    }

    /// As an operand of `and`, `or`, `not`.
    pub(super) fn truth(self) -> (Truth, Needs) {
        match self {
            Self::Truth(truth, needs) => (truth, needs),
            Self::Unavailable(needs) => (Truth::UNKNOWN, needs),
            _ => (Truth::NULL, Needs::NONE),
        }
    }

    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Null) || matches!(self, Self::Truth(truth, _) if truth.is_null())
    }

    /// What stands in the way of using it: the needs of an unavailable value or unsettled truth.
    pub(super) fn unavailable(self) -> Option<Needs> {
        match self {
            Self::Unavailable(needs) => Some(needs),
            Self::Truth(truth, needs) if !truth.is_settled() => Some(needs),
            _ => None,
        }
    }

    pub(super) fn as_text(self) -> Option<&'m str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_object(self) -> Option<&'m Object<'m>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }
}
