//! Access logs: where they go and what stands in them.

use naru_spec::{AccessLog, Format, Invalid, JsonField, LogFormat, LogSink, defaults};

use crate::findings::{Findings, code};
use crate::proto::{Struct, Value, accesslog, core, file_log, stream_log, value};
use crate::schema::{type_name, unpack};
use naru_spec::Path;

pub(super) fn read(
    said: &accesslog::AccessLog,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> Option<AccessLog> {
    let path = path.field("typed_config");
    let Some(accesslog::access_log::ConfigType::TypedConfig(any)) = &said.config_type else {
        findings.missing(&path, "an access log needs a typed_config");
        return None;
    };
    let (sink, format) = if let Some(log) = unpack::<file_log::FileAccessLog>(any) {
        (LogSink::File(log.path.clone()), file_format(&log, &path, findings))
    } else if let Some(log) = unpack::<stream_log::StdoutAccessLog>(any) {
        let stream_log::stdout_access_log::AccessLogFormat::LogFormat(format) = log
            .access_log_format
            .unwrap_or_else(|| stream_log::stdout_access_log::AccessLogFormat::LogFormat(Default::default()));
        (LogSink::Stdout, substitution(&format, &path.field("log_format"), findings))
    } else if let Some(log) = unpack::<stream_log::StderrAccessLog>(any) {
        let stream_log::stderr_access_log::AccessLogFormat::LogFormat(format) = log
            .access_log_format
            .unwrap_or_else(|| stream_log::stderr_access_log::AccessLogFormat::LogFormat(Default::default()));
        (LogSink::Stderr, substitution(&format, &path.field("log_format"), findings))
    } else {
        let text = format!("the access log '{}' is not supported", type_name(&any.type_url));
        let hint = "file, stdout and stderr access logs are";
        findings.error(&path.field("@type"), code::UNSUPPORTED_EXTENSION, text, hint);
        return None;
    };
    Some(AccessLog { sink, format })
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn file_format(log: &file_log::FileAccessLog, path: &Path<'_>, findings: &mut Findings<'_>) -> LogFormat {
    use file_log::file_access_log::AccessLogFormat;
    match &log.access_log_format {
        Some(AccessLogFormat::Format(text)) if !text.is_empty() => {
            LogFormat::Text(format(text, &path.field("format"), findings))
        }
        Some(AccessLogFormat::LogFormat(said)) => substitution(said, &path.field("log_format"), findings),
        _ => default_format(),
    }
}

fn default_format() -> LogFormat {
    LogFormat::Text(Format::parse(defaults::ACCESS_LOG_FORMAT).expect("the default format is valid"))
}

#[expect(deprecated, reason = "the older spelling is still read")]
fn substitution(
    said: &core::SubstitutionFormatString,
    path: &Path<'_>,
    findings: &mut Findings<'_>,
) -> LogFormat {
    use core::data_source::Specifier;
    use core::substitution_format_string::Format as Said;
    match &said.format {
        None => default_format(),
        Some(Said::TextFormat(text)) => LogFormat::Text(format(text, &path.field("text_format"), findings)),
        Some(Said::JsonFormat(fields)) => {
            LogFormat::Json(object(fields, &path.field("json_format"), findings))
        }
        Some(Said::TextFormatSource(source)) => {
            let path = path.field("text_format_source");
            match &source.specifier {
                Some(Specifier::InlineString(text)) => {
                    LogFormat::Text(format(text, &path.field("inline_string"), findings))
                }
                Some(Specifier::InlineBytes(bytes)) => {
                    let path = path.field("inline_bytes");
                    let text = String::from_utf8(bytes.clone()).unwrap_or_else(|_| {
                        findings.invalid(&path, Invalid::new("the format is not UTF-8"));
                        String::new()
                    });
                    LogFormat::Text(format(&text, &path, findings))
                }
                Some(Specifier::Filename(_)) => unsupported_source(&path.field("filename"), findings),
                Some(Specifier::EnvironmentVariable(_)) => {
                    unsupported_source(&path.field("environment_variable"), findings)
                }
                None => default_format(),
            }
        }
    }
}

fn unsupported_source(path: &Path<'_>, findings: &mut Findings<'_>) -> LogFormat {
    findings.unsupported(path, "a log format must stand in the document", "use inline_string");
    default_format()
}

/// The API keeps no order of keys; they are taken in alphabetical order.
fn object(said: &Struct, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<(String, JsonField)> {
    let mut keys: Vec<&String> = said.fields.keys().collect();
    keys.sort();
    let fields = keys.into_iter().map(|key| {
        let value = said.fields.get(key).and_then(|v| v.kind.as_ref());
        (key.clone(), json_field(value, &path.key(key), findings))
    });
    fields.collect()
}

fn json_field(said: Option<&value::Kind>, path: &Path<'_>, findings: &mut Findings<'_>) -> JsonField {
    match said {
        None | Some(value::Kind::NullValue(_)) => JsonField::Literal("null".to_owned()),
        Some(value::Kind::BoolValue(value)) => JsonField::Literal(value.to_string()),
        // As JSON spells it; a whole number has no fraction.
        Some(value::Kind::NumberValue(number)) => JsonField::Literal(number.to_string()),
        Some(value::Kind::StringValue(text)) => JsonField::Value(format(text, path, findings)),
        Some(value::Kind::StructValue(fields)) => JsonField::Object(object(fields, path, findings)),
        Some(value::Kind::ListValue(list)) => {
            let items =
                list.values.iter().enumerate().map(|(at, item): (usize, &Value)| {
                    json_field(item.kind.as_ref(), &path.at(at), findings)
                });
            JsonField::List(items.collect())
        }
    }
}

fn format(text: &str, path: &Path<'_>, findings: &mut Findings<'_>) -> Format {
    Format::parse(text).unwrap_or_else(|invalid| {
        findings.invalid(path, invalid);
        Format::default()
    })
}
