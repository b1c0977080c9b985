//! Passwords that a message gives for what is attached to it: words behind a word that means password, then quoted words.
//!
//! Candidates only, each once, the likeliest first; the archive says which is right. Bounded by `most`.

/// Words that mean password, in small letters; a candidate follows.
const WORDS: [&str; 28] = [
    "password",
    "passwort",
    "kennwort",
    "passcode",
    "passphrase",
    "pass",
    "pwd",
    "pin",
    "code",
    "пароль",
    "пароля",
    "passe",
    "contraseña",
    "clave",
    "senha",
    "parola",
    "wachtwoord",
    "hasło",
    "heslo",
    "jelszó",
    "lösenord",
    "adgangskode",
    "passord",
    "salasana",
    "şifre",
    "密码",
    "密碼",
    "パスワード",
];

/// Words behind it that are looked at.
const AFTER: usize = 5;
/// Longest password, in bytes; the shortest has two characters.
const LONGEST: usize = 64;
/// Bytes of text that are read.
const READ: usize = 32 << 10;
/// What opens and closes a quotation.
const QUOTES: [(char, char); 8] =
    [('"', '"'), ('\'', '\''), ('“', '”'), ('„', '“'), ('«', '»'), ('‘', '’'), ('`', '`'), ('「', '」')];

/// Candidates in a text.
pub fn passwords(text: &str, most: usize) -> Vec<String> {
    let text = &text[..text.floor_char_boundary(READ)];
    let mut out = Vec::new();
    let tokens: Vec<&str> = text.split_whitespace().collect();
    for (place, token) in tokens.iter().enumerate() {
        let Some(rest) = behind(token) else { continue };
        add(&mut out, rest, most);
        tokens.iter().skip(place + 1).take(AFTER).for_each(|token| add(&mut out, token, most));
    }
    for (opens, closes) in QUOTES {
        let mut rest = text;
        while out.len() < most {
            let Some((_, inside)) = rest.split_once(opens) else { break };
            let Some((quoted, after)) = inside.split_once(closes) else { break };
            if quoted.len() <= LONGEST && !quoted.contains(char::is_whitespace) {
                add(&mut out, quoted, most);
            }
            rest = after;
        }
    }
    out
}

/// What stands in a token behind a word that means password: `PIN:4711`; empty when nothing does.
fn behind(token: &str) -> Option<&str> {
    let (head, rest) = match token.find([':', '=', '：']) {
        Some(at) => (&token[..at], token[at..].trim_start_matches([':', '=', '：'])),
        None => (token, ""),
    };
    let head = head.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    // Languages without spaces, and words put together: `Zip-Passwort`.
    let means = WORDS.iter().any(|word| head == *word || (word.len() > 4 && head.ends_with(word)));
    means.then_some(rest)
}

/// As written, without quotes and brackets around it, and without the mark that ends a sentence.
fn add(out: &mut Vec<String>, token: &str, most: usize) {
    let bare = token.trim_matches(|c: char| "\"'“”„«»‘’`「」()[]<>*".contains(c));
    for form in [bare.trim_end_matches(['.', ',', ';', ':', '!', '?']), bare, token] {
        let fits = form.chars().count() > 1 && form.len() <= LONGEST;
        if fits && out.len() < most && !out.iter().any(|known| known == form) {
            out.push(form.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_many_languages() {
        for (text, password) in [
            ("The password is: 4711x.", "4711x"),
            ("Password: Q4-2026!", "Q4-2026!"),
            ("PIN:0815", "0815"),
            ("Das Passwort lautet „Wehr“.", "Wehr"),
            ("Kennwort = geheim", "geheim"),
            ("Zip-Passwort: a1", "a1"),
            ("Пароль: архив7", "архив7"),
            ("mot de passe : \"été26\"", "été26"),
            ("La contraseña del archivo es hola1", "hola1"),
            ("密码：8842", "8842"),
            ("use `xk-12` to open it", "xk-12"),
            ("(password: s3cret)", "s3cret"),
        ] {
            assert!(passwords(text, 24).iter().any(|one| one == password), "{text}: {:?}", passwords(text, 24));
        }
        assert!(passwords("Nothing here needs a key, thanks.", 24).is_empty());
    }

    #[test]
    fn bounded() {
        let many = "password: a1 \"b2\" ".repeat(50_000) + &"x".repeat(1_000);
        assert!(passwords(&many, 24).len() <= 24);
        let different: String = (0..1_000).map(|n| format!("pin {n}00 ")).collect();
        assert_eq!(passwords(&different, 24).len(), 24);
        assert!(passwords(&format!("password {}", "x".repeat(100)), 24).is_empty());
        // Quotes that nobody closes.
        assert!(passwords(&"\" ".repeat(10_000), 24).is_empty());
    }
}
