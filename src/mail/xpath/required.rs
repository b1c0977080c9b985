//! What must stand in the source of a page for a query to find anything in its tree: so that most pages need no tree.
//!
//! Only what the tree builder cannot make up: names of tags it does not imply, names of attributes, and runs of ASCII
//! letters and digits in attribute values, which character references could spell only by number (or as `&fjlig;`).

use super::parse::{Axis, Expression, Operator, Start, Step, Test};

/// Elements that are there without a start tag of their own.
const IMPLIED: [&str; 8] = ["html", "head", "body", "tbody", "tr", "colgroup", "p", "br"];

/// Texts (lower case) all of which stand in the source of any page in which the query finds a node.
pub(super) fn of(query: &Expression) -> Vec<String> {
    let mut all = Vec::new();
    nodes(query, &mut all);
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether a source spells letters or digits by number: then attribute values need not stand in it.
pub fn spells_by_number(source: &str) -> bool {
    source.match_indices("&#").any(|(at, _)| {
        let rest = &source[at + 2..];
        let (digits, radix) = match rest.strip_prefix(['x', 'X']) {
            Some(hex) => (hex, 16),
            None => (rest, 10),
        };
        let code = digits
            .chars()
            .map_while(|c| c.to_digit(radix))
            .fold(0_u32, |n, d| n.saturating_mul(radix).saturating_add(d));
        char::from_u32(code).is_some_and(|c| c.is_ascii_alphanumeric())
    }) || source.contains("&fjlig")
}

/// What a set of nodes needs in order not to be empty.
fn nodes(expression: &Expression, all: &mut Vec<String>) {
    let Expression::Path(start, steps) = expression else { return };
    if let Start::Value(inner, predicates) = start {
        nodes(inner, all);
        predicates.iter().for_each(|predicate| truth(predicate, all));
    }
    for Step { axis, test, predicates } in steps {
        if let Test::Name(name) = test {
            match axis {
                Axis::Attribute if !name.contains(':') => all.push(name.to_ascii_lowercase()),
                Axis::Attribute => {}
                // `<image>` becomes an `img`.
                _ if name.eq_ignore_ascii_case("img") => all.push("<im".into()),
                _ if IMPLIED.contains(&name.to_ascii_lowercase().as_str()) => {}
                _ => all.push(format!("<{}", name.to_ascii_lowercase())),
            }
        }
        for predicate in predicates {
            truth(predicate, all);
            if *axis != Axis::Attribute {
                all.extend(named(predicate).filter(|name| !is_made_up(name)).map(|name| format!("<{name}")));
            }
        }
    }
}

/// The name that an element must have: `local-name() = 'x'`.
fn named(predicate: &Expression) -> Option<String> {
    let Expression::Binary(Operator::Equal, a, b) = predicate else { return None };
    match (&**a, &**b) {
        (Expression::Call("local-name" | "name", args), Expression::Literal(name))
        | (Expression::Literal(name), Expression::Call("local-name" | "name", args))
            if args.is_empty() && !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()) =>
        {
            Some(name.to_ascii_lowercase())
        }
        _ => None,
    }
}

/// Whether the tree may have such an element although the source names none.
fn is_made_up(name: &str) -> bool {
    name == "img" || IMPLIED.contains(&name)
}

/// What a predicate needs in order to be true.
fn truth(expression: &Expression, all: &mut Vec<String>) {
    match expression {
        Expression::Path(..) => nodes(expression, all),
        Expression::Binary(Operator::And, a, b) => {
            truth(a, all);
            truth(b, all);
        }
        Expression::Binary(Operator::Equal, a, b) => match (&**a, &**b) {
            (path @ Expression::Path(..), Expression::Literal(text))
            | (Expression::Literal(text), path @ Expression::Path(..)) => holds(path, text, all),
            _ => {}
        },
        Expression::Call("boolean", args) => truth(&args[0], all),
        Expression::Call("contains" | "starts-with" | "ends-with", args) => {
            if let Expression::Literal(text) = &args[1] {
                holds(&args[0], text, all);
            }
        }
        _ => {}
    }
}

/// What an operand needs in order to have that text in it.
fn holds(operand: &Expression, text: &str, all: &mut Vec<String>) {
    match operand {
        Expression::Call("lower-case" | "upper-case" | "normalize-space", args) if args.len() == 1 => {
            holds(&args[0], text, all);
        }
        // An empty text stands in nothing at all.
        Expression::Path(_, steps) if !text.is_empty() => {
            nodes(operand, all);
            if steps.last().is_some_and(|step| step.axis == Axis::Attribute) {
                let runs = text.split(|c: char| !c.is_ascii_alphanumeric());
                all.extend(runs.filter(|run| run.len() >= 2).map(str::to_ascii_lowercase));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dom, XPath};
    use super::spells_by_number;

    #[test]
    fn required_texts() {
        let cases: &[(&str, &[&str])] = &[
            ("//*[local-name() = 'admin']", &["<admin"]),
            ("//*[local-name() = 'p'] | //@*[local-name() = 'href']", &[]),
            ("//@*[local-name() = 'href']", &[]),
            (r#"//tr[td[1]/img[@height="25px"]]/td[2]//a"#, &["25px", "<a", "<im", "<td", "height"]),
            ("//div[contains(@style, 'clip-path: inset') and not(@id)]", &["<div", "clip", "inset", "path", "style"]),
            ("//div[@a or @b]", &["<div"]),
            ("//a | //b", &[]),
            ("//*[@class != 'x']", &[]),
            ("//p[normalize-space(@title) = '']", &[]),
            ("//b[. = 'two']", &["<b"]),
            ("//b[@x = false()]", &["<b"]),
            ("count(//td) > 2", &[]),
        ];
        for (query, expected) in cases {
            assert_eq!(XPath::compile(query).unwrap().required(), *expected, "{query}");
        }
    }

    #[test]
    fn what_is_required_stands_where_something_is_found() {
        let pages = [
            "<TABLE><TD><IMAGE HEIGHT='25px'><td><a>x</a>",
            "<table><tr><td><img height=&#x32;5px></td><td><A href=x>y",
            "<div style='Clip-Path&colon; inset(0)'>x</div>",
            "</p></br>",
        ];
        for query in
            [r#"//tr[td[1]/img[@height="25px"]]/td[2]//a"#, "//div[contains(@style, 'lip-Path: inset')]", "//p", "//br"]
        {
            let query = XPath::compile(query).unwrap();
            for page in pages {
                let found = !query.evaluate(&Dom::parse(page), 10_000).nodes.is_empty();
                let may = query.required().iter().all(|one| page.to_ascii_lowercase().contains(one));
                assert!(!found || may || spells_by_number(page), "{page}");
            }
        }
    }

    #[test]
    fn numbers_that_spell() {
        for (source, spells) in [
            ("&#65;", true),
            ("&#x41", true),
            ("&#X0000061;", true),
            ("&#8217; &#39; &#160;", false),
            ("&#", false),
            ("&fjlig;", true),
        ] {
            assert_eq!(spells_by_number(source), spells, "{source}");
        }
    }
}
