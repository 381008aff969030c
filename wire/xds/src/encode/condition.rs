//! A condition in CEL as a tree of Google's.

use naru_spec::Cel;

use crate::proto::expr::constant::ConstantKind;
use crate::proto::expr::expr::create_struct::{Entry, entry::KeyKind};
use crate::proto::expr::expr::{Call, Comprehension, CreateList, CreateStruct, ExprKind, Ident, Select};
use crate::proto::expr::{Constant, Expr};

pub(super) fn write(said: &Cel) -> Expr {
    let boxed = |said: &Cel| Some(Box::new(write(said)));
    let constant = |kind| ExprKind::ConstExpr(Constant { constant_kind: Some(kind) });
    let kind = match said {
        Cel::Null => constant(ConstantKind::NullValue(0)),
        Cel::Bool(is_true) => constant(ConstantKind::BoolValue(*is_true)),
        Cel::Int(whole) => constant(ConstantKind::Int64Value(*whole)),
        Cel::Uint(whole) => constant(ConstantKind::Uint64Value(*whole)),
        Cel::Double(real) => constant(ConstantKind::DoubleValue(*real)),
        Cel::Text(text) => constant(ConstantKind::StringValue(text.clone())),
        Cel::Bytes(bytes) => constant(ConstantKind::BytesValue(bytes.clone())),
        Cel::Ident(name) => ExprKind::IdentExpr(Ident { name: name.clone() }),
        Cel::Select(said) => ExprKind::SelectExpr(Box::new(Select {
            operand: boxed(&said.of),
            field: said.field.clone(),
            test_only: said.tests,
        })),
        Cel::Call(said) => ExprKind::CallExpr(Box::new(Call {
            target: said.target.as_ref().and_then(boxed),
            function: said.function.clone(),
            args: said.args.iter().map(write).collect(),
        })),
        Cel::List(list) => ExprKind::ListExpr(CreateList {
            elements: list.iter().map(write).collect(),
            optional_indices: Vec::new(),
        }),
        Cel::Map(entries) => ExprKind::StructExpr(CreateStruct {
            message_name: String::new(),
            entries: entries
                .iter()
                .map(|(key, value)| Entry {
                    key_kind: Some(KeyKind::MapKey(write(key))),
                    value: Some(write(value)),
                    ..Entry::default()
                })
                .collect(),
        }),
        Cel::Fold(said) => ExprKind::ComprehensionExpr(Box::new(Comprehension {
            iter_var: said.item.clone(),
            iter_var2: String::new(),
            iter_range: boxed(&said.over),
            accu_var: said.kept.clone(),
            accu_init: boxed(&said.first),
            loop_condition: boxed(&said.goes_on),
            loop_step: boxed(&said.step),
            result: boxed(&said.result),
        })),
    };
    Expr { id: 0, expr_kind: Some(kind) }
}
