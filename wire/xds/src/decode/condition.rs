//! The condition of a policy: an expression of CEL as a tree of Google's.

use naru_condition::Condition;
use naru_spec::{Cel, CelCall, CelFold, CelSelect, Path};

use crate::findings::Findings;
use crate::proto::expr::constant::ConstantKind;
use crate::proto::expr::expr::ExprKind;
use crate::proto::expr::expr::create_struct::entry::KeyKind;
use crate::proto::expr::{Constant, Expr};

/// Nothing where it is told what is wrong.
pub(super) fn read(said: &Expr, path: &Path<'_>, findings: &mut Findings<'_>) -> Option<Cel> {
    let tree = match tree(said) {
        Ok(tree) => tree,
        Err(text) => {
            findings.unsupported_value(path, text, "");
            return None;
        }
    };
    match Condition::compile(&tree) {
        Ok(_) => Some(tree),
        Err(problems) => {
            for problem in problems {
                findings.invalid(path, problem);
            }
            None
        }
    }
}

fn tree(said: &Expr) -> Result<Cel, &'static str> {
    let Some(kind) = &said.expr_kind else { return Err("a part of the expression says nothing") };
    let inner = |said: &Option<Box<Expr>>| match said {
        Some(said) => tree(said),
        None => Err("a part of the expression is missing"),
    };
    let all = |list: &[Expr]| list.iter().map(tree).collect::<Result<Vec<_>, _>>();
    Ok(match kind {
        ExprKind::ConstExpr(said) => constant(said)?,
        ExprKind::IdentExpr(said) if said.name.is_empty() => return Err("a name of the expression is empty"),
        // What begins with a dot is a name at the root, of which there is one kind.
        ExprKind::IdentExpr(said) => Cel::Ident(said.name.trim_start_matches('.').to_owned()),
        ExprKind::SelectExpr(said) => Cel::Select(Box::new(CelSelect {
            of: inner(&said.operand)?,
            field: said.field.clone(),
            tests: said.test_only,
        })),
        ExprKind::CallExpr(said) => Cel::Call(Box::new(CelCall {
            target: said.target.as_ref().map(|target| tree(target)).transpose()?,
            function: said.function.clone(),
            args: all(&said.args)?,
        })),
        ExprKind::ListExpr(said) if said.optional_indices.is_empty() => Cel::List(all(&said.elements)?),
        ExprKind::ListExpr(_) => return Err("elements that may be missing are not known"),
        ExprKind::StructExpr(said) if said.message_name.is_empty() => {
            let mut entries = Vec::new();
            for entry in &said.entries {
                let (Some(KeyKind::MapKey(key)), Some(value), false) =
                    (&entry.key_kind, &entry.value, entry.optional_entry)
                else {
                    return Err("an entry of a map has a key and a value");
                };
                entries.push((tree(key)?, tree(value)?));
            }
            Cel::Map(entries)
        }
        ExprKind::StructExpr(_) => return Err("messages are not made in a condition"),
        ExprKind::ComprehensionExpr(said) if said.iter_var2.is_empty() => Cel::Fold(Box::new(CelFold {
            item: said.iter_var.clone(),
            over: inner(&said.iter_range)?,
            kept: said.accu_var.clone(),
            first: inner(&said.accu_init)?,
            goes_on: inner(&said.loop_condition)?,
            step: inner(&said.loop_step)?,
            result: inner(&said.result)?,
        })),
        ExprKind::ComprehensionExpr(_) => return Err("elements with two names are not known"),
    })
}

fn constant(said: &Constant) -> Result<Cel, &'static str> {
    Ok(match &said.constant_kind {
        // A null of JSON is read as if nothing were said.
        Some(ConstantKind::NullValue(_)) | None => Cel::Null,
        Some(ConstantKind::BoolValue(is_true)) => Cel::Bool(*is_true),
        Some(ConstantKind::Int64Value(whole)) => Cel::Int(*whole),
        Some(ConstantKind::Uint64Value(whole)) => Cel::Uint(*whole),
        Some(ConstantKind::DoubleValue(real)) => Cel::Double(*real),
        Some(ConstantKind::StringValue(text)) => Cel::Text(text.clone()),
        Some(ConstantKind::BytesValue(bytes)) => Cel::Bytes(bytes.clone()),
        #[expect(deprecated, reason = "they are told apart from nothing")]
        Some(ConstantKind::DurationValue(_) | ConstantKind::TimestampValue(_)) => {
            return Err(
                "constants of durations and timestamps are not read: call duration() and timestamp()",
            );
        }
    })
}
