//! Functions that clients of Postgres call before they ask anything, and whose answer here is always the same.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// What is said of the version: drivers read from it what they may send.
pub(crate) const VERSION: &str = "16.6";

/// Returns them all.
pub(crate) fn all() -> Vec<ScalarUDF> {
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let version = format!("PostgreSQL {VERSION} (millstream {})", env!("CARGO_PKG_VERSION"));
    let none = || ScalarValue::Utf8(None);
    let constants: [(&'static str, ScalarValue); 17] = [
        ("version", text(&version)),
        ("obj_description", none()),
        ("col_description", none()),
        ("shobj_description", none()),
        ("pg_get_serial_sequence", none()),
        ("pg_get_viewdef", none()),
        ("pg_get_indexdef", none()),
        ("pg_get_triggerdef", none()),
        ("pg_get_ruledef", none()),
        ("pg_get_function_result", none()),
        ("pg_get_function_arguments", none()),
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(true))),
        ("pg_type_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_function_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_tablespace_location", text("")),
        ("pg_indexes_size", ScalarValue::Int64(Some(0))),
    ];
    let mut all: Vec<ScalarUDF> = constants.into_iter().map(|(name, value)| constant(name, value)).collect();
    all.push(ScalarUDF::new_from_impl(CurrentSetting { signature: Signature::variadic_any(Volatility::Stable) }));
    all
}

fn constant(name: &'static str, value: ScalarValue) -> ScalarUDF {
    let signature = Signature::one_of(
        vec![datafusion::logical_expr::TypeSignature::Nullary, datafusion::logical_expr::TypeSignature::VariadicAny],
        Volatility::Stable,
    );
    ScalarUDF::new_from_impl(Constant { name, value, signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &'static str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match arguments.args.first() {
            Some(ColumnarValue::Scalar(name)) => name.try_as_str().flatten().unwrap_or_default().to_lowercase(),
            _ => String::new(),
        };
        let value = default_of(&name).map(str::to_owned);
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value)))
    }
}

/// What a setting is, unless a client has set it.
pub(crate) fn default_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "server_version" => VERSION,
        "server_version_num" => "160006",
        "server_encoding" | "client_encoding" => "UTF8",
        "standard_conforming_strings" | "integer_datetimes" | "transaction_read_only" => "on",
        "default_transaction_read_only" => "on",
        "is_superuser" | "in_hot_standby" | "transaction_deferrable" | "row_security" => "off",
        "transaction_isolation" | "default_transaction_isolation" => "repeatable read",
        "search_path" => "public",
        "timezone" => "UTC",
        "datestyle" => "ISO, YMD",
        "intervalstyle" => "postgres",
        "bytea_output" => "hex",
        "extra_float_digits" => "1",
        "application_name" => "",
        "max_identifier_length" => "63",
        "max_index_keys" => "32",
        "lc_collate" | "lc_ctype" | "lc_messages" => "C",
        _ => return None,
    })
}
