//! Inline style, as far as it hides text from a person: display, visibility, size, colour on its own background.
//!
//! A reader's whole cascade is not here: style sheets are not applied. What is not understood counts as visible.

/// Red, green, blue as `0xRRGGBB`.
pub(super) type Colour = u32;

/// What an element's style says; `None`: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) hidden: bool,
    pub(super) shown: bool,
    pub(super) foreground: Option<Colour>,
    /// Outer `None`: nothing said; inner `None`: something unknown, such as a picture.
    pub(super) background: Option<Option<Colour>>,
}

impl Style {
    /// Reads the declarations of a `style` attribute.
    pub(super) fn read(&mut self, text: &str) {
        let (mut no_height, mut clipped) = (false, false);
        for declaration in text.split(';').take(64) {
            let Some((name, value)) = declaration.split_once(':') else { continue };
            let (name, value) = (name.trim(), value.trim().trim_end_matches("!important").trim());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("color") {
                self.foreground = colour(value).or(self.foreground);
            } else if is("background-color") || is("background") {
                self.background = Some(background(value));
            } else if is("display") || is("visibility") || is("mso-hide") {
                self.hidden |= ["none", "hidden", "all"].iter().any(|hide| value.eq_ignore_ascii_case(hide));
            } else if is("font-size") {
                // A parent's `font-size:0` only closes gaps between tables; a child sets its own.
                match number(value) {
                    Some(size) if size <= 1.0 && !value.ends_with("em") && !value.ends_with("rem") => {
                        self.hidden = true
                    }
                    Some(0.0) => self.hidden = true,
                    Some(_) => self.shown = true,
                    None => {}
                }
            } else if is("opacity") {
                self.hidden |= number(value).is_some_and(|n| n <= 0.05);
            } else if is("max-height") || is("height") || is("max-width") || is("width") {
                no_height |= number(value).is_some_and(|n| n <= 1.0 && !value.ends_with('%'));
            } else if is("overflow") {
                clipped |= value.eq_ignore_ascii_case("hidden");
            } else if is("text-indent") || is("left") || is("top") || is("margin-left") {
                self.hidden |= number(value).is_some_and(|n| n <= -900.0);
            }
        }
        self.hidden |= no_height && clipped;
    }
}

/// Whether text in this colour cannot be seen on this ground.
pub(super) fn same_to_the_eye(a: Colour, b: Colour) -> bool {
    (0..3).all(|channel| (a >> (8 * channel) & 255).abs_diff(b >> (8 * channel) & 255) <= 8)
}

/// A colour: `#rgb`, `#rrggbb`, `rgb(…)`, or one of the names that matter here.
pub(super) fn colour(text: &str) -> Option<Colour> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix('#') {
        return hexadecimal(digits);
    }
    if let Some(inner) = text.strip_prefix("rgb(").or_else(|| text.strip_prefix("RGB(")) {
        let mut channels = inner.trim_end_matches(')').split(',').map(|c| c.trim().parse::<u8>().ok());
        let (r, g, b) = (channels.next()??, channels.next()??, channels.next()??);
        return Some(u32::from(r) << 16 | u32::from(g) << 8 | u32::from(b));
    }
    [("white", 0xff_ffff), ("black", 0), ("snow", 0xff_fafa), ("ivory", 0xff_fff0), ("whitesmoke", 0xf5_f5f5)]
        .into_iter()
        .find_map(|(name, value)| text.eq_ignore_ascii_case(name).then_some(value))
        .or_else(|| hexadecimal(text))
}

fn hexadecimal(digits: &str) -> Option<Colour> {
    if !digits.is_ascii() {
        return None;
    }
    match digits.len() {
        6 => u32::from_str_radix(digits, 16).ok(),
        3 => {
            let short = u32::from_str_radix(digits, 16).ok()?;
            let (r, g, b) = (short >> 8 & 15, short >> 4 & 15, short & 15);
            Some((r * 17) << 16 | (g * 17) << 8 | (b * 17))
        }
        _ => None,
    }
}

fn background(value: &str) -> Option<Colour> {
    if value.contains("url(") || value.contains("gradient") {
        return None;
    }
    value.split_whitespace().find_map(colour)
}

fn number(value: &str) -> Option<f32> {
    let end = value.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(value.len());
    value[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Style {
        let mut style = Style::default();
        style.read(text);
        style
    }

    #[test]
    fn hiding() {
        for text in [
            "display:none",
            "DISPLAY : None !important",
            "visibility:hidden",
            "font-size:0",
            "font-size:1px",
            "opacity:0",
            "max-height:0;overflow:hidden",
            "mso-hide:all",
            "text-indent:-9999px",
        ] {
            assert!(read(text).hidden, "{text}");
        }
        for text in
            ["display:block", "font-size:12px", "font-size:1em", "opacity:.9", "height:0", "max-height:100%", "", ";:;"]
        {
            assert!(!read(text).hidden, "{text}");
        }
    }

    #[test]
    fn colours() {
        assert_eq!(colour("#fff"), Some(0xff_ffff));
        assert_eq!(colour("#0a0B0c"), Some(0x0a_0b0c));
        assert_eq!(colour("rgb(1, 2, 3)"), Some(0x01_0203));
        assert_eq!(colour("White"), Some(0xff_ffff));
        assert_eq!(colour("#fé"), None);
        assert!(same_to_the_eye(0xff_ffff, 0xfe_fefe) && !same_to_the_eye(0xff_ffff, 0xcc_cccc));
        assert_eq!(read("background:url(x) #fff").background, Some(None));
        assert_eq!(read("background: #fff none").background, Some(Some(0xff_ffff)));
    }
}
