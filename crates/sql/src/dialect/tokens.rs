//! What Spark writes in a way that the parser does not know, or takes for something else: `1.5D`, `2S`, `r'raw'`.

use datafusion::sql::sqlparser::dialect::SparkSqlDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

/// Reads a statement as tokens.
pub(super) fn of(text: &str) -> Result<Vec<TokenWithSpan>, ParserError> {
    let tokens = Tokenizer::new(&SparkSqlDialect, text).tokenize_with_location()?;
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    for mut token in tokens {
        let raw = out.last().is_some_and(|last: &TokenWithSpan| is_raw(last, &token));
        if let (Token::SingleQuotedString(text) | Token::DoubleQuotedString(text), false) = (&mut token.token, raw) {
            *text = unescaped(text);
        }
        let Some(last) = out.last().filter(|last| last.span.end == token.span.start) else {
            out.push(token);
            continue;
        };
        let instead = match (&last.token, &token.token) {
            (Token::Number(digits, false), Token::Word(Word { value, quote_style: None, .. })) => {
                suffixed(digits, value)
            }
            _ if is_raw(last, &token) => Some(vec![token.token.clone()]),
            _ => None,
        };
        match instead {
            Some(tokens) => {
                let span = last.span;
                out.pop();
                out.extend(tokens.into_iter().map(|token| TokenWithSpan { token, span }));
            }
            None => out.push(token),
        }
    }
    Ok(out)
}

/// Says whether a text has an `r` before it: nothing in it is an escape.
fn is_raw(before: &TokenWithSpan, token: &TokenWithSpan) -> bool {
    let text = matches!(token.token, Token::SingleQuotedString(_) | Token::DoubleQuotedString(_));
    let letter = |word: &Word| word.quote_style.is_none() && word.value.eq_ignore_ascii_case("r");
    text && before.span.end == token.span.start && matches!(&before.token, Token::Word(word) if letter(word))
}

/// A text with what its backslashes mean. `\%` and `\_` stay as they are, for LIKE.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        let ahead = rest.as_str();
        let coded = |digits: Option<&str>, base| {
            char::from_u32(u32::from_str_radix(digits.filter(|d| d.bytes().all(|b| b != b'+'))?, base).ok()?)
        };
        let (found, used) = match ahead.chars().next() {
            Some('u') => (coded(ahead.get(1..5), 16), 5),
            Some('U') => (coded(ahead.get(1..9), 16), 9),
            Some('0'..='1') => (coded(ahead.get(..3), 8), 3),
            _ => (None, 0),
        };
        if let Some(found) = found {
            out.push(found);
            rest = ahead[used..].chars();
            continue;
        }
        match rest.next() {
            Some('0') => out.push('\0'),
            Some('b') => out.push('\u{8}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('Z') => out.push('\u{1a}'),
            Some(kept @ ('%' | '_')) => out.extend(['\\', kept]),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

/// A number with its type behind it.
fn suffixed(digits: &str, suffix: &str) -> Option<Vec<Token>> {
    let exponent = if digits.contains(['e', 'E']) { "" } else { "e0" };
    let double = Token::Number(format!("{digits}{exponent}"), false);
    let cast = |value: Token, to: &[Token]| {
        let mut tokens = vec![word("CAST"), Token::LParen, value, word("AS")];
        tokens.extend_from_slice(to);
        tokens.push(Token::RParen);
        Some(tokens)
    };
    let number = || Token::Number(digits.to_owned(), false);
    match &*suffix.to_uppercase() {
        "D" => Some(vec![double]),
        "F" => cast(double, &[word("FLOAT")]),
        "S" => cast(number(), &[word("SMALLINT")]),
        "Y" => cast(number(), &[word("TINYINT")]),
        "BD" if !digits.contains(['e', 'E']) => {
            let (before, behind) = digits.split_once('.').unwrap_or((digits, ""));
            let precision = (before.trim_start_matches('0').len() + behind.len()).max(1);
            let number = |n: usize| Token::Number(n.to_string(), false);
            let of =
                [word("DECIMAL"), Token::LParen, number(precision), Token::Comma, number(behind.len()), Token::RParen];
            cast(Token::SingleQuotedString(digits.to_owned()), &of)
        }
        _ => None,
    }
}

fn word(text: &str) -> Token {
    Token::make_word(text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_with_their_types_and_raw_texts_as_they_are() {
        for (text, want) in [
            ("1.5D", "1.5e0"),
            ("2d + 1e3D", "2e0 + 1e3"),
            ("3L", "3L"),
            ("2S", "CAST(2ASSMALLINT)"),
            ("2Y", "CAST(2ASTINYINT)"),
            ("1.5F", "CAST(1.5e0ASFLOAT)"),
            ("0.50BD", "CAST('0.50'ASDECIMAL(2,2))"),
            ("1 D", "1 D"),
            ("1days", "1days"),
            ("r'a\\n'", "'a\\n'"),
            ("R'x' || r 'y'", "'x' || r 'y'"),
            (r"'a\tb\\c\%d\_\'", "'a\tb\\c\\%d\\_\\'"),
            (r"'\u00e4\101\q\0'", "'äAq\0'"),
        ] {
            let tokens: String = of(text).unwrap().iter().map(|token| token.token.to_string()).collect();
            assert_eq!(tokens, want, "{text}");
        }
    }
}
