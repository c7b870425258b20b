//! What goes wrong, as Postgres says it: a code of five letters, and one line.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use millstream_sql::live::told;
use pgwire::error::{ErrorInfo, PgWireError};

pub(crate) const READ_ONLY: &str = "25006";
pub(crate) const UNDEFINED_CURSOR: &str = "34000";
pub(crate) const NOT_SUPPORTED: &str = "0A000";
pub(crate) const CANCELLED: &str = "57014";
pub(crate) const TOO_MUCH: &str = "54000";
pub(crate) const TOO_OLD: &str = "72000";
pub(crate) const FAILED_TRANSACTION: &str = "25P02";
pub(crate) const NO_TRANSACTION: &str = "25P01";
pub(crate) const UNDEFINED_SETTING: &str = "42704";
/// A day or a time that the other side has not.
pub(crate) const OUT_OF_RANGE: &str = "22008";
pub(crate) const TOO_WIDE: &str = "54011";
pub(crate) const INVALID_VALUE: &str = "22023";
/// What is not allowed by the protocol.
pub(crate) const PROTOCOL: &str = "08P01";
pub(crate) const INTERNAL: &str = "XX000";

/// An error that ends the statement.
pub(crate) fn error(code: &str, text: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), text.into())))
}

/// An error that ends the connection.
pub(crate) fn fatal(code: &str, text: impl Into<String>) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), text.into())))
}

/// What DataFusion says, with a code that drivers know.
pub(crate) fn of_plan(failed: &DataFusionError, statement: &str) -> PgWireError {
    let code = code_of(failed);
    if code == "53200" {
        return error(
            code,
            "the statement needs more memory than statements may take together: ask for less, or say ServeSpec::memory",
        );
    }
    error(code, told(failed, statement).message())
}

fn code_of(failed: &DataFusionError) -> &'static str {
    use DataFusionError as E;
    match failed {
        E::Diagnostic(_, inner) | E::Context(_, inner) => code_of(inner),
        E::Shared(inner) => code_of(inner),
        E::Collection(all) => all.first().map_or(INTERNAL, code_of),
        E::SQL(..) => "42601",
        E::SchemaError(schema, _) => match **schema {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42701",
        },
        E::Plan(text) if text.contains("not found") && text.contains("able") => "42P01",
        E::Plan(text) if text.contains("Invalid function") => "42883",
        E::Plan(_) => "42804",
        E::NotImplemented(_) => NOT_SUPPORTED,
        E::ResourcesExhausted(_) => "53200",
        E::ArrowError(arrow, _) => match **arrow {
            ArrowError::DivideByZero => "22012",
            ArrowError::ArithmeticOverflow(_) => "22003",
            ArrowError::CastError(_) | ArrowError::ParseError(_) => "22P02",
            _ => "22000",
        },
        E::Execution(_) | E::External(_) => "22000",
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_wrong_has_the_code_that_drivers_know() {
        let arrow = |e| DataFusionError::ArrowError(Box::new(e), None);
        for (failed, code) in [
            (DataFusionError::Plan("table 'millstream.public.x' not found".into()), "42P01"),
            (DataFusionError::Plan("Invalid function 'f'".into()), "42883"),
            (DataFusionError::ResourcesExhausted("much".into()), "53200"),
            (arrow(ArrowError::DivideByZero), "22012"),
            (arrow(ArrowError::ArithmeticOverflow("big".into())), "22003"),
            (DataFusionError::Plan("x".into()).context("in").context("out"), "42804"),
        ] {
            assert_eq!(code_of(&failed), code, "{failed}");
        }
    }
}
