//! XPath by tables: what a query selects, what does not compile, what runs out of budget.

use super::*;
use crate::mail::TreeLimits;

const PAGE: &str = "<title>T</title><div id=one class='box wide'><p>a <b>bold</b> c</p><p>second</p><!-- note --></div>\
    <table width=10><tr><td>1<td>2<tr><td>3<td><a href='http://x.example/?q=1'>go</a></table>\
    <ul><li>i<li>ii<li>iii</ul><script>var form = 1;</script><img src=p.png width=20><o:p>office</o:p>";

fn pick(query: &str) -> Vec<String> {
    let tree = HtmlTree::parse(PAGE, TreeLimits::default());
    let compiled = XPath::compile(query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let found = compiled.select(&tree, 100_000).unwrap();
    found.into_iter().map(|node| node.raw(&tree, 1_000).into_owned()).collect()
}

#[test]
fn selects() {
    let cases: &[(&str, &[&str])] = &[
        ("//b", &["<b>bold</b>"]),
        ("//B", &["<b>bold</b>"]),
        ("/html/body/div/p[2]", &["<p>second</p>"]),
        ("//p[last()]/text()", &["second"]),
        ("//div//text()", &["a ", "bold", " c", "second"]),
        ("//@id", &["one"]),
        ("//img/@src | //a/@href", &["http://x.example/?q=1", "p.png"]),
        ("//table/tbody/tr[2]/td[1]", &["<td>3</td>"]),
        ("//tr/td[1]", &["<td>1</td>", "<td>3</td>"]),
        ("(//td)[1]", &["<td>1</td>"]),
        ("//td[position() > 1 and not(a)]", &["<td>2</td>"]),
        ("//li[position() mod 2 = 1]", &["<li>i</li>", "<li>iii</li>"]),
        ("//ul[count(li) = 3]/li[3]", &["<li>iii</li>"]),
        ("//comment()", &["<!-- note -->"]),
        ("//*[contains(@class, 'wide')]/@class", &["box wide"]),
        ("//*[@class[contains(., 'box')]]/p[2]", &["<p>second</p>"]),
        ("//*[starts-with(@href, \"http:\")]", &["<a href=\"http://x.example/?q=1\">go</a>"]),
        ("//script[contains(text(), 'form')]/text()", &["var form = 1;"]),
        ("//p[normalize-space() = 'a bold c']/b", &["<b>bold</b>"]),
        ("//b/parent::p/following-sibling::p", &["<p>second</p>"]),
        ("//p[2]/preceding-sibling::p/b", &["<b>bold</b>"]),
        ("//b/ancestor::div/@id", &["one"]),
        ("//b/ancestor::*[1]/b", &["<b>bold</b>"]),
        ("//p[2]/preceding::b", &["<b>bold</b>"]),
        ("//td[.='2']/following::li[2]", &["<li>ii</li>"]),
        ("//img[number(@width) > 10 or not(@width)]/@width", &["20"]),
        ("//*[local-name() = 'li'][1]", &["<li>i</li>"]),
        ("//o:p", &["<o:p>office</o:p>"]),
        ("//*[translate(@id, 'eno', 'ENO') = 'ONE']/p[2]", &["<p>second</p>"]),
        ("//table[@width='10'][.//a]//a", &["<a href=\"http://x.example/?q=1\">go</a>"]),
        ("//table[@width * 2 = 20]/@width", &["10"]),
        ("//li[string-length(.) = 2]", &["<li>ii</li>"]),
        ("//li[substring(., 2, 1) = 'i'][2]", &["<li>iii</li>"]),
        ("//a[substring-after(@href, '?') = 'q=1']/../../td[1]", &["<td>3</td>"]),
        ("//div/descendant-or-self::*/b", &["<b>bold</b>"]),
        ("//div[p = 'second']/@id", &["one"]),
        ("//div[p != 'second']/@id", &["one"]),
        ("//li[- 1 = -1][1]", &["<li>i</li>"]),
        ("//*[self::b or self::title]", &["<title>T</title>", "<b>bold</b>"]),
        ("//div[p]//b]", &["<b>bold</b>"]),
        ("//@id/ancestor-or-self::node()[1]", &["one"]),
        ("//@id/ancestor-or-self::div/@class", &["box wide"]),
        ("//@id/../@class", &["box wide"]),
        ("//@id/self::*", &[]),
        ("//nothing", &[]),
        ("count(//p)", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(pick(query), *expected, "{query}");
    }
}

#[test]
fn texts_of_nodes() {
    let tree = HtmlTree::parse(PAGE, TreeLimits::default());
    let text = |query: &str| {
        let found = XPath::compile(query).unwrap().select(&tree, 10_000).unwrap();
        found[0].inner_text(&tree).into_owned()
    };
    assert_eq!(text("//div"), "a bold csecond");
    assert_eq!(text("//script"), "var form = 1;");
    assert!(!text("/html").contains("var form"));
    assert_eq!(text("//a/@href"), "http://x.example/?q=1");
    assert_eq!(text("//comment()"), "");
}

#[test]
fn errors_have_columns() {
    let cases = [
        ("", 1),
        ("//a[", 5),
        ("//a[@b='c]", 8),
        ("//a b", 5),
        ("//", 3),
        ("//a/nowhere::b", 5),
        ("nosuch(1)", 1),
        ("//a[not()]", 5),
        ("//a[contains(@b)]", 5),
        ("é//$a", 4),
        ("//a[1.2.3]", 5),
        ("//a[b or]", 9),
    ];
    for (query, column) in cases {
        assert_eq!(XPath::compile(query).map_err(|error| error.column), Err(column), "{query}");
    }
}

#[test]
fn hostile_queries() {
    for (open, close) in [("(", ")"), ("a[", "]"), ("not(", ")"), ("-(", ")")] {
        assert!(XPath::compile(&format!("{}a{}", open.repeat(100_000), close.repeat(100_000))).is_err());
        assert!(XPath::compile(&format!("{}a{}", open.repeat(1_000), close.repeat(1_000))).is_err());
    }
    XPath::compile(&format!("a{}", " or a".repeat(900))).unwrap();
    assert!(XPath::compile(&format!("a{}", " or a".repeat(5_000))).is_err());
    XPath::compile(&format!("{}1", "-".repeat(5_000))).unwrap();
    let query = "//tr[td[1]/img[@height=\"25px\" or not(. = 'x')]]/td[2]//a | count(b) + 1.5";
    for end in 0..=query.len() {
        let _ = XPath::compile(&query[..end]);
    }
}

#[test]
fn the_budget_ends_what_is_quadratic() {
    let page = "<p>x</p>".repeat(20_000);
    let tree = HtmlTree::parse(&page, TreeLimits::default());
    let slow = XPath::compile("//p[count(following::p) > 1]").unwrap();
    assert_eq!(slow.select(&tree, 1_000_000), Err(XPathOverBudget { steps: 1_000_000 }));
    let fast = XPath::compile("//p[. = 'x']").unwrap();
    assert_eq!(fast.select(&tree, 1_000_000).unwrap().len(), 20_000);
    let nested = HtmlTree::parse(&"<div>".repeat(400), TreeLimits::default());
    assert_eq!(XPath::compile("//div//div//div").unwrap().select(&nested, 10_000).unwrap().len(), 398);
}
