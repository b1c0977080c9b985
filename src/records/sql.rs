//! A statement in the making: text and bound values, with `$1`-style places that SQLite and PostgreSQL both take.
//!
//! SQLite looks such a place up among all that came before it, which takes seconds for the tens of thousands of values of a
//! statement with many rows: those have `?` there ([`Sql::many`]).

use sqlx::any::{Any, AnyArguments, AnyRow};
use sqlx::encode::Encode;
use sqlx::types::Type;
use sqlx::{Arguments, AssertSqlSafe, Executor};

/// SQL text of our own and the values it binds. No value ever becomes text.
pub(super) struct Sql {
    text: String,
    values: AnyArguments,
    numbered: bool,
}

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: AnyArguments::default(), numbered: true }
    }

    /// A statement of many rows, for one of the two databases.
    pub(super) fn many(text: &'static str, sqlite: bool) -> Self {
        Self { numbered: !sqlite, ..Self::new(text) }
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Binds one value in place.
    pub(super) fn bind<'v, T: Encode<'v, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        // Encoding of numbers and text cannot fail; were it to, the statement would miss a value and be refused whole.
        if self.values.add(value).is_ok() {
            self.text.push(if self.numbered { '$' } else { '?' });
            if self.numbered {
                self.text.push_str(&self.values.len().to_string());
            }
        }
        self
    }

    /// Binds text; NUL, which PostgreSQL cannot hold, becomes U+FFFD.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        if value.contains('\0') { self.bind(value.replace('\0', "\u{fffd}")) } else { self.bind(value) }
    }

    /// Appends `(..), (..)`, one for each row; `row` binds its values, separated by [`Self::comma`].
    pub(super) fn rows<R>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
        mut row: impl FnMut(&mut Self, R),
    ) -> &mut Self {
        for (place, item) in rows.into_iter().enumerate() {
            self.text.push_str(if place == 0 { "(" } else { ", (" });
            row(self, item);
            self.text.push(')');
        }
        self
    }

    pub(super) fn comma(&mut self) -> &mut Self {
        self.push(", ")
    }

    /// Runs it; gives the number of rows it touched.
    pub(super) async fn execute<'e>(self, on: impl Executor<'e, Database = Any>) -> Result<u64, sqlx::Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(false);
        Ok(query.execute(on).await?.rows_affected())
    }

    /// Runs it; gives all rows.
    pub(super) async fn fetch<'e>(self, on: impl Executor<'e, Database = Any>) -> Result<Vec<AnyRow>, sqlx::Error> {
        sqlx::query_with(AssertSqlSafe(self.text), self.values).persistent(false).fetch_all(on).await
    }
}
