//! The small language in which a configuration says what a directory's entry means, as Fabric CA's LDAP client has it:
//!
//! ```text
//! attr("member", ";")            the values of an attribute, joined ("," if nothing else is said)
//! map(attr("member"), "groups")  the text with every name of a map replaced by its value
//! if(cond, "yes", "no")
//! DN, affiliation                the entry's name; its OUs from the top, joined by dots
//! = = comparison:  ==  !=  =~ "regular expression"  !~  and  &&  ||  !  ( )
//! ```
//!
//! Whether text or truth is meant is checked when the configuration is read, so that evaluating cannot fail.

use std::collections::BTreeMap;

use regex::Regex;

/// How deep an expression may be nested.
const MAX_DEPTH: usize = 32;
/// Longest expression in bytes.
const MAX_BYTES: usize = 4096;

/// Replacements by the name of their map: what to replace, by what; the longest first.
pub(super) type Maps = BTreeMap<String, Vec<(String, String)>>;

/// What an expression is about.
pub(super) trait Entry {
    fn dn(&self) -> &str;
    fn affiliation(&self) -> &str;
    /// The values of an attribute, whatever the case of its name.
    fn values(&self, attribute: &str) -> &[String];
}

#[derive(Debug, Clone)]
enum Text {
    Literal(String),
    Dn,
    Affiliation,
    Attribute { name: String, separator: String },
    Mapped(Box<Text>, Vec<(String, String)>),
    If(Box<Truth>, Box<Text>, Box<Text>),
}

#[derive(Debug, Clone)]
enum Truth {
    Constant(bool),
    Equal(Text, Text),
    Matches(Text, Regex),
    Not(Box<Truth>),
    And(Box<Truth>, Box<Truth>),
    Or(Box<Truth>, Box<Truth>),
    If(Box<Truth>, Box<Truth>, Box<Truth>),
}

#[derive(Debug, Clone)]
enum Value {
    Text(Text),
    Truth(Truth),
}

/// An expression that was checked.
#[derive(Debug, Clone)]
pub(super) struct Expression(Value);

impl Text {
    fn of(&self, entry: &dyn Entry) -> String {
        match self {
            Self::Literal(text) => text.clone(),
            Self::Dn => entry.dn().to_owned(),
            Self::Affiliation => entry.affiliation().to_owned(),
            Self::Attribute { name, separator } => entry.values(name).join(separator),
            Self::Mapped(text, map) => map
                .iter()
                .fold(text.of(entry), |text, (from, to)| text.replace(from, to)),
            Self::If(condition, yes, no) => if condition.of(entry) { yes } else { no }.of(entry),
        }
    }
}

impl Truth {
    fn of(&self, entry: &dyn Entry) -> bool {
        match self {
            Self::Constant(constant) => *constant,
            Self::Equal(left, right) => left.of(entry) == right.of(entry),
            Self::Matches(text, pattern) => pattern.is_match(&text.of(entry)),
            Self::Not(truth) => !truth.of(entry),
            Self::And(left, right) => left.of(entry) && right.of(entry),
            Self::Or(left, right) => left.of(entry) || right.of(entry),
            Self::If(condition, yes, no) => if condition.of(entry) { yes } else { no }.of(entry),
        }
    }
}

impl Expression {
    /// Reads an expression.
    pub(super) fn parse(text: &str, maps: &Maps) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("an expression has at most {MAX_BYTES} bytes"));
        }
        let mut parser = Parser {
            rest: text,
            maps,
            depth: 0,
        };
        let value = parser.either()?;
        parser.skip();
        if parser.rest.is_empty() {
            Ok(Self(value))
        } else {
            Err(format!("'{}' is not expected here", parser.rest))
        }
    }

    /// Its value for an entry; truth as `true` or `false`.
    pub(super) fn of(&self, entry: &dyn Entry) -> String {
        match &self.0 {
            Value::Text(text) => text.of(entry),
            Value::Truth(truth) => truth.of(entry).to_string(),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    maps: &'a Maps,
    depth: usize,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            return Ok(());
        }
        let found = if self.rest.is_empty() {
            "the end"
        } else {
            self.rest
        };
        Err(format!("'{token}' is expected before '{found}'"))
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// `||` binds least, then `&&`, then comparisons.
    fn either(&mut self) -> Result<Value, String> {
        let mut left = self.both()?;
        while self.take("||") {
            let right = truth(self.both()?)?;
            left = Value::Truth(Truth::Or(Box::new(truth(left)?), Box::new(right)));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Value, String> {
        let mut left = self.comparison()?;
        while self.take("&&") {
            let right = truth(self.comparison()?)?;
            left = Value::Truth(Truth::And(Box::new(truth(left)?), Box::new(right)));
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Value, String> {
        let left = self.unary()?;
        for (token, matches, negated) in [
            ("==", false, false),
            ("!=", false, true),
            ("=~", true, false),
            ("!~", true, true),
        ] {
            if !self.take(token) {
                continue;
            }
            let compared = if matches {
                let pattern = self.literal()?;
                let pattern = Regex::new(&pattern).map_err(|e| e.to_string())?;
                Truth::Matches(plain(left)?, pattern)
            } else {
                Truth::Equal(plain(left)?, plain(self.unary()?)?)
            };
            return Ok(Value::Truth(if negated {
                Truth::Not(Box::new(compared))
            } else {
                compared
            }));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Value, String> {
        self.skip();
        // `!=` and `!~` stand between two values, never before one.
        if self.rest.starts_with('!') {
            self.rest = &self.rest[1..];
            let inner = self.deeper(|p| truth(p.unary()?))?;
            return Ok(Value::Truth(Truth::Not(Box::new(inner))));
        }
        if self.take("(") {
            let inner = self.deeper(Self::either)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.rest.starts_with(['"', '\'']) {
            return Ok(Value::Text(Text::Literal(self.literal()?)));
        }
        self.named()
    }

    fn literal(&mut self) -> Result<String, String> {
        self.skip();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let quote = quote.ok_or_else(|| format!("a text in quotes is expected before '{}'", self.rest))?;
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.rest = &self.rest[at + character.len_utf8()..];
                return Ok(text);
            }
            if character == '\\' {
                match characters.next() {
                    Some((_, escaped)) if escaped == quote || escaped == '\\' => text.push(escaped),
                    // For regular expressions: `\.` stays as it is.
                    Some((_, other)) => text.extend(['\\', other]),
                    None => break,
                }
            } else {
                text.push(character);
            }
        }
        Err("a text has no end".to_owned())
    }

    fn named(&mut self) -> Result<Value, String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "DN" => Ok(Value::Text(Text::Dn)),
            "affiliation" => Ok(Value::Text(Text::Affiliation)),
            "true" => Ok(Value::Truth(Truth::Constant(true))),
            "false" => Ok(Value::Truth(Truth::Constant(false))),
            "attr" => self.attribute(),
            "map" => self.mapped(),
            "if" => self.deeper(Self::choice),
            "" if self.rest.is_empty() => Err("something is missing at the end".to_owned()),
            "" => Err(format!("'{}' is not expected here", self.rest)),
            other => Err(format!(
                "'{other}' is not known; there are attr, map, if, DN and affiliation"
            )),
        }
    }

    fn attribute(&mut self) -> Result<Value, String> {
        self.expect("(")?;
        let name = self.literal()?;
        let separator = if self.take(",") {
            self.literal()?
        } else {
            ",".to_owned()
        };
        self.expect(")")?;
        Ok(Value::Text(Text::Attribute { name, separator }))
    }

    fn mapped(&mut self) -> Result<Value, String> {
        self.expect("(")?;
        let text = self.deeper(|p| plain(p.either()?))?;
        self.expect(",")?;
        let name = self.literal()?;
        self.expect(")")?;
        let map = self
            .maps
            .get(&name)
            .ok_or_else(|| format!("there is no map '{name}'"))?;
        Ok(Value::Text(Text::Mapped(Box::new(text), map.clone())))
    }

    fn choice(&mut self) -> Result<Value, String> {
        self.expect("(")?;
        let condition = Box::new(truth(self.either()?)?);
        self.expect(",")?;
        let yes = self.either()?;
        self.expect(",")?;
        let no = self.either()?;
        self.expect(")")?;
        match (yes, no) {
            (Value::Text(yes), Value::Text(no)) => {
                Ok(Value::Text(Text::If(condition, Box::new(yes), Box::new(no))))
            }
            (Value::Truth(yes), Value::Truth(no)) => {
                Ok(Value::Truth(Truth::If(condition, Box::new(yes), Box::new(no))))
            }
            _ => Err("both outcomes of an 'if' must be texts, or both comparisons".to_owned()),
        }
    }
}

fn truth(value: Value) -> Result<Truth, String> {
    match value {
        Value::Truth(truth) => Ok(truth),
        Value::Text(_) => Err("a comparison is expected where a text stands".to_owned()),
    }
}

fn plain(value: Value) -> Result<Text, String> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Truth(_) => Err("a text is expected where a comparison stands".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Revoker;

    impl Entry for Revoker {
        fn dn(&self) -> &'static str {
            "uid=revoker,ou=hall,ou=org1,dc=example"
        }

        fn affiliation(&self) -> &'static str {
            "org1.hall"
        }

        fn values(&self, attribute: &str) -> &[String] {
            static VALUES: std::sync::LazyLock<[String; 2]> =
                std::sync::LazyLock::new(|| ["foo1".into(), "foo2".into()]);
            match attribute {
                "member" => &*VALUES,
                _ => &[],
            }
        }
    }

    fn maps() -> Maps {
        [("groups".to_owned(), vec![("foo1".to_owned(), "peer".to_owned())])].into()
    }

    fn value(text: &str) -> Result<String, String> {
        Expression::parse(text, &maps()).map(|e| e.of(&Revoker))
    }

    #[test]
    fn expressions_mean_what_fabrics_do() {
        for (text, wanted) in [
            (r#"attr("member")"#, "foo1,foo2"),
            (r#"attr("member", ":")"#, "foo1:foo2"),
            (r#"attr("none")"#, ""),
            (r#"map(attr("member"),"groups")"#, "peer,foo2"),
            (r#"DN =~ "uid=revoker""#, "true"),
            (r#"DN !~ '^uid=revoker,.*'"#, "false"),
            (r"affiliation", "org1.hall"),
            (r#"affiliation == "org1.hall" && !(attr("none") != "")"#, "true"),
            (
                r#"if(attr("none") == "x" || false, "a", if(true, 'b', "c"))"#,
                "b",
            ),
            (r#"if(true, attr("member") =~ "2$", false)"#, "true"),
            (r#""say \"x\" \.""#, r#"say "x" \."#),
        ] {
            assert_eq!(value(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_when_the_configuration_is_read() {
        for (text, word) in [
            ("", "missing"),
            ("attr(member)", "quotes"),
            (r#"attr("a""#, "')'"),
            (r#"map(DN, "none")"#, "none"),
            (r#"if(DN, "a", "b")"#, "comparison"),
            (r#"if(true, "a", false)"#, "both"),
            (r#"DN =~ "(""#, "regex"),
            (r#"DN "x""#, "not expected"),
            ("exec", "exec"),
            (r#""open"#, "no end"),
            (&format!("{}true{}", "(".repeat(40), ")".repeat(40)), "nested"),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,80}", near in r#"(attr|map|if|DN|!|\(|\)|,|"a"|==|=~|&&|\|\|| ){0,20}"#) {
            let _ = value(&text);
            let _ = value(&near);
        }
    }
}
