//! CEL expressions over the source record.

use std::{collections::HashMap, fmt, sync::Arc};

use cel::{
    Context, Env, IdedExpr, Value,
    common::ast::{EntryExpr, Expr, LiteralValue},
    extensions,
};
use model::{Cause, ErrorClass};

use crate::operand::{from_json, is_finite};

/// An expression that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError(pub String);

/// A compiled expression. It sees the record as `src`.
///
/// CEL does not mix whole and decimal numbers in arithmetic, and JSON does not tell them
/// apart: one record says `20000`, the next `20000.5`. Where an expression fails on that, it
/// is evaluated once more with all numbers as decimals.
#[derive(Clone)]
pub struct Expression {
    text: String,
    env: Arc<Env>,
    strict: IdedExpr,
    widened: IdedExpr,
    needs: Needs,
}

/// Which fields of the record an expression looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needs {
    /// These.
    Fields(Vec<String>),
    /// Any: it passes `src` on as a whole.
    All,
}

impl Needs {
    fn has(&self, field: &str) -> bool {
        match self {
            Self::Fields(fields) => fields.iter().any(|name| name == field),
            Self::All => true,
        }
    }
}

/// Functions an expression may call; a misspelt one is found when the map is compiled, not
/// when the first record comes.
const FUNCTIONS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "type",
    "dyn",
    "min",
    "max",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "charAt",
    "indexOf",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "quote",
    "replace",
    "split",
    "substring",
    "trim",
    "upperAscii",
    "format",
    "reverse",
];

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles an expression.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let mut env = Env::stdlib();
        env.add_extension(extensions::strings)
            .map_err(|error| ExpressionError(error.to_string()))?;
        let env = Arc::new(env);
        let program = env
            .compile(text)
            .map_err(|errors| ExpressionError(errors.to_string()))?;
        let mut facts = Facts::default();
        facts.visit(program.expression());
        if let Some(name) = facts.unknown.first() {
            return Err(ExpressionError(format!(
                "`{name}` is not known: the record is called src, as in src.{name}"
            )));
        }
        if let Some(name) = facts
            .functions
            .iter()
            .find(|name| !FUNCTIONS.contains(&name.as_str()))
        {
            return Err(ExpressionError(format!("there is no function `{name}`")));
        }
        let strict = program.expression().clone();
        let mut widened = strict.clone();
        widen(&mut widened);
        let needs = if facts.whole {
            Needs::All
        } else {
            Needs::Fields(facts.fields)
        };
        Ok(Self {
            text: text.to_owned(),
            env,
            strict,
            widened,
            needs,
        })
    }

    pub(crate) fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Evaluates over fields of a record, given as raw JSON.
    pub(crate) fn evaluate<'a>(
        &self,
        fields: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<Value, Box<Cause>> {
        let strict = self.run(&self.strict, fields.clone(), false);
        let result = match strict {
            Err(cel::ExecutionError::UnsupportedBinaryOperator(..)) => {
                self.run(&self.widened, fields, true)
            }
            other => other,
        };
        let value = result.map_err(|error| self.explain(&error))?;
        if is_finite(&value) {
            return Ok(value);
        }
        let message = format!(
            "`{}` gives something that is no number: is something divided by zero? Ask first, as in src.n != 0 ? … : null",
            self.text
        );
        let cause = Cause::new(ErrorClass::Mapping, "expression", message);
        let value: String = format!("{value:?}").chars().take(80).collect();
        Err(Box::new(cause.of_value(value)))
    }

    fn explain(&self, error: &cel::ExecutionError) -> Box<Cause> {
        let cause = |why: &str| {
            let message = format!("`{}`: {why}", self.text);
            Cause::new(ErrorClass::Mapping, "expression", message)
        };
        let explained = match error {
            cel::ExecutionError::NoSuchKey(name) => cause(&format!(
                "the record has no field `{name}`; ask with has(src.{name}) first"
            )),
            cel::ExecutionError::FunctionError { function, message } if function == "src" => {
                cause("a number of the record cannot be reckoned with exactly: take its field as it is, without `expr`").because(message)
            }
            // It quotes values of the record.
            other => cause("it cannot be evaluated on this record").because(other),
        };
        Box::new(explained)
    }

    fn run<'a>(
        &self,
        expression: &IdedExpr,
        fields: impl Iterator<Item = (&'a str, &'a str)>,
        widen: bool,
    ) -> Result<Value, cel::ExecutionError> {
        let mut record: HashMap<String, Value> = HashMap::new();
        for (name, raw) in fields.filter(|(name, _)| self.needs.has(name)) {
            let value = from_json(raw, widen)
                .map_err(|error| cel::ExecutionError::function_error("src", error))?;
            record.insert(name.to_owned(), value);
        }
        let mut context = Context::with_env(Arc::clone(&self.env));
        context.add_variable_from_value("src", record);
        Value::resolve(expression, &context)
    }
}

/// Turns whole numbers that are operands of arithmetic into decimals.
fn widen(node: &mut IdedExpr) {
    let arithmetic = matches!(
        &node.expr,
        Expr::Call(call) if matches!(call.func_name.as_str(), "_+_" | "_-_" | "_*_" | "_/_" | "_%_" | "-_")
    );
    for_each_child(node, &mut |child| {
        if arithmetic && let Expr::Literal(LiteralValue::Int(number)) = &child.expr {
            #[expect(clippy::cast_precision_loss, reason = "the meaning of widening")]
            let wide = *number.inner() as f64;
            child.expr = Expr::Literal(LiteralValue::Double(wide.into()));
        }
        widen(child);
    });
}

fn for_each_child(node: &mut IdedExpr, visit: &mut dyn FnMut(&mut IdedExpr)) {
    match &mut node.expr {
        Expr::Call(call) => {
            if let Some(target) = &mut call.target {
                visit(target);
            }
            call.args.iter_mut().for_each(visit);
        }
        Expr::Comprehension(inner) => {
            for part in [
                &mut inner.iter_range,
                &mut inner.accu_init,
                &mut inner.loop_cond,
                &mut inner.loop_step,
                &mut inner.result,
            ] {
                visit(part);
            }
        }
        Expr::List(list) => list.elements.iter_mut().for_each(visit),
        Expr::Map(map) => map
            .entries
            .iter_mut()
            .for_each(|entry| visit_entry(&mut entry.expr, visit)),
        Expr::Struct(inner) => inner
            .entries
            .iter_mut()
            .for_each(|entry| visit_entry(&mut entry.expr, visit)),
        Expr::Select(select) => visit(&mut select.operand),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn visit_entry(entry: &mut EntryExpr, visit: &mut dyn FnMut(&mut IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => visit(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            visit(&mut entry.key);
            visit(&mut entry.value);
        }
    }
}

/// What an expression uses.
#[derive(Default)]
struct Facts {
    fields: Vec<String>,
    whole: bool,
    functions: Vec<String>,
    unknown: Vec<String>,
    scope: Vec<String>,
}

impl Facts {
    fn visit(&mut self, node: &IdedExpr) {
        match &node.expr {
            Expr::Ident(name) if name == "src" => self.whole = true,
            Expr::Ident(name) if !self.scope.contains(name) && !name.starts_with('@') => {
                self.unknown.push(name.clone());
            }
            Expr::Select(select) if is_src(&select.operand) => {
                self.fields.push(select.field.clone());
            }
            Expr::Call(call)
                if call.func_name == "_[_]" && call.args.first().is_some_and(is_src) =>
            {
                match call.args.get(1).map(|index| &index.expr) {
                    Some(Expr::Literal(LiteralValue::String(name))) => {
                        self.fields.push(name.inner().to_owned());
                    }
                    _ => self.whole = true,
                }
            }
            Expr::Comprehension(inner) => {
                self.visit(&inner.iter_range);
                let outer = self.scope.len();
                self.scope.push(inner.iter_var.clone());
                self.scope.extend(inner.iter_var2.clone());
                self.scope.push(inner.accu_var.clone());
                for part in [
                    &inner.accu_init,
                    &inner.loop_cond,
                    &inner.loop_step,
                    &inner.result,
                ] {
                    self.visit(part);
                }
                self.scope.truncate(outer);
            }
            _ => {
                if let Expr::Call(call) = &node.expr
                    && call
                        .func_name
                        .starts_with(|c: char| c.is_ascii_alphabetic())
                {
                    self.functions.push(call.func_name.clone());
                }
                for_each_child(&mut node.clone(), &mut |child| self.visit(child));
            }
        }
    }
}

fn is_src(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == "src")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: [(&str, &str); 5] = [
        ("limit", "20000.5"),
        ("count", "3"),
        ("name", "\"Alpine\""),
        ("none", "null"),
        ("tags", "[\"a\"]"),
    ];

    fn eval(text: &str) -> Result<String, String> {
        let expression = Expression::compile(text).map_err(|error| error.0)?;
        expression
            .evaluate(RECORD.into_iter())
            .map(|value| format!("{value:?}"))
            .map_err(|cause| cause.message + &cause.chain.concat())
    }

    #[test]
    fn whole_and_decimal_numbers_may_be_mixed() {
        assert_eq!(
            eval("has(src.limit) ? src.limit * 100 : 0"),
            Ok("Float(2000050.0)".into())
        );
        assert_eq!(eval("src.count * 100"), Ok("Int(300)".into()));
        assert_eq!(eval("src.count * 1.5"), Ok("Float(4.5)".into()));
        assert_eq!(
            eval("src.limit / src.count > 6666"),
            Ok("Bool(true)".into())
        );
        assert_eq!(
            eval("src.name * 2").unwrap_err(),
            "`src.name * 2`: it cannot be evaluated on this recordUnsupported binary operator 'mul': String(\"Alpine\"), Float(2.0)"
        );
    }

    #[test]
    fn what_is_no_number_is_no_result() {
        let zero = [
            ("limit", "10.5"),
            ("count", "0"),
            ("id", "12345678901234567890.1"),
        ];
        for text in [
            "src.limit / src.count",
            "src.count / 0.0 * src.limit",
            "[src.limit / src.count]",
            "{'a': src.limit / src.count}",
        ] {
            let expression = Expression::compile(text).unwrap();
            let error = expression.evaluate(zero.into_iter()).unwrap_err();
            assert!(error.message.contains("divided by zero"), "{error:?}");
        }
        let other = Expression::compile("src.limit * 2.0").unwrap();
        assert_eq!(other.evaluate(zero.into_iter()), Ok(Value::Float(21.0)));
        let long = Expression::compile("src.id * 2.0").unwrap();
        let error = long.evaluate(zero.into_iter()).unwrap_err();
        assert!(
            error.chain[0].contains("`12345678901234567890.1` has more digits"),
            "{error:?}"
        );
    }

    #[test]
    fn missing_and_null_are_told_apart() {
        assert_eq!(eval("has(src.none)"), Ok("Bool(true)".into()));
        assert_eq!(eval("has(src.gone)"), Ok("Bool(false)".into()));
        assert_eq!(eval("src.none == null"), Ok("Bool(true)".into()));
        assert!(
            eval("src.gone == null")
                .unwrap_err()
                .contains("has(src.gone)")
        );
    }

    #[test]
    fn mistakes_are_found_when_compiling() {
        for (text, said) in [
            ("src.a *", "Syntax error"),
            ("name == 'x'", "as in src.name"),
            ("src.name.upper()", "no function `upper`"),
            ("src.tags.exists(t, u == 'a')", "`u` is not known"),
        ] {
            let error = Expression::compile(text).unwrap_err().0;
            assert!(error.contains(said), "{error}");
        }
        assert!(Expression::compile("src.tags.exists(t, t == 'a')").is_ok());
    }

    #[test]
    fn functions_that_may_be_called_are_there() {
        assert_eq!(
            eval("src.name.upperAscii().substring(0, 2)"),
            Ok("String(\"AL\")".into())
        );
        assert_eq!(eval("src.name.matches('^Al')"), Ok("Bool(true)".into()));
        assert_eq!(
            eval("timestamp('2026-01-01T00:00:00Z').getFullYear()"),
            Ok("Int(2026)".into())
        );
        assert_eq!(
            eval("src.name.split('p').join('-')"),
            Ok("String(\"Al-ine\")".into())
        );
    }

    #[test]
    fn only_the_fields_it_names_are_needed() {
        let needs = |text: &str| Expression::compile(text).unwrap().needs;
        assert_eq!(
            needs("src.a + src['b'].c"),
            Needs::Fields(vec!["a".into(), "b".into()])
        );
        assert_eq!(needs("size(src) > 3"), Needs::All);
    }
}
