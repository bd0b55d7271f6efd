//! Names of symbols as their authors wrote them.

use std::fmt::{self, Write};

use cpp_demangle::{DemangleOptions, Symbol};

/// As much of a name is written. What a damaged or hostile one stands for may have no end.
const LONGEST: usize = 4096;

/// A text that ends at [`LONGEST`].
#[derive(Default)]
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// What a mangled name of C++ or Rust stands for; None if it is none. `short`: without parameters
/// and results.
fn demangle(symbol: &str, short: bool) -> Option<String> {
    let mut text = Short::default();
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        // Without the hash.
        write!(text, "{rust:#}").ok()?;
        return Some(text.0);
    }
    if !symbol.starts_with("_Z") {
        return None;
    }
    let options = DemangleOptions::new().no_return_type();
    let options = if short { options.no_params() } else { options };
    Symbol::new(symbol).ok()?.structured_demangle(&mut text, &options).ok()?;
    Some(text.0)
}

/// What a mangled name of C++ or Rust stands for, with its parameters; None if it is none.
pub(crate) fn demangled(symbol: &str) -> Option<String> {
    demangle(symbol, false)
}

/// The name alone, without parameters: of a mangled name, or of a plain one.
pub(crate) fn base(symbol: &str) -> String {
    demangle(symbol, true).unwrap_or_else(|| symbol.into())
}

/// A word that the symbol of every function of this name has in it; empty if none is known. By it
/// most others are known not to be meant.
pub(crate) fn word(base: &str) -> &str {
    let name = base.split(['<', '(']).next().unwrap_or_default().trim();
    let name = name.rsplit("::").next().unwrap_or_default().trim();
    let is_word =
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with("operator");
    if is_word { name } else { "" }
}

/// A symbol for messages: what it stands for, and the symbol itself if that is another text.
pub(crate) struct Shown<'s>(pub(crate) &'s str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = self.0;
        let (name, version) = symbol.split_at(symbol.find('@').unwrap_or(symbol.len()));
        match demangled(name) {
            Some(text) => write!(f, "`{text}{version}` ({symbol})"),
            None => write!(f, "`{symbol}`"),
        }
    }
}

/// A function as somebody asks for it who does not know its symbol: `ns::f`, `ns::f(int)`, or
/// `ns::f of type FviE`, whose type is as `typeid` has it.
pub(crate) struct Wanted {
    name: String,
    /// With what follows the name: `(int) const`.
    parameters: Option<String>,
}

/// What is between a function's name and its type.
pub(crate) const OF_TYPE: &str = " of type ";

impl Wanted {
    pub(crate) fn new(text: &str) -> Self {
        if let Some((name, of_type)) = text.split_once(OF_TYPE) {
            // An odd one has no parameters that a function has.
            let of_type = demangled(&format!("_ZTS{of_type}")).unwrap_or_default();
            let of_type = of_type.strip_suffix(" noexcept").unwrap_or(&of_type);
            let parameters = list_at_end(of_type).map_or("?", |start| &of_type[start..]);
            return Self { name: compact(name), parameters: Some(compact(parameters)) };
        }
        match list_at_end(text) {
            Some(start) => Self { name: compact(&text[..start]), parameters: Some(compact(&text[start..])) },
            None => Self { name: compact(text), parameters: None },
        }
    }

    /// A [`word`] of it.
    pub(crate) fn word(&self) -> &str {
        word(&self.name)
    }

    /// Whether a symbol is a function of this name, and whether it is the one that is wanted.
    pub(crate) fn is(&self, symbol: &str) -> Option<bool> {
        let name = compact(&base(symbol));
        if name != self.name || name == symbol {
            return None;
        }
        let Some(parameters) = &self.parameters else { return Some(true) };
        let whole = compact(&demangled(symbol)?);
        Some(whole.strip_prefix(&*name) == Some(&**parameters))
    }
}

/// Where the list of parameters begins that a function's name ends in: `f(int (*)(char)) const`.
fn list_at_end(text: &str) -> Option<usize> {
    let end = text.rfind(')')?;
    let qualifiers = text[end + 1..].trim();
    let is_qualifier = |word: &str| matches!(word, "const" | "volatile" | "&" | "&&" | "const&" | "const&&");
    if !qualifiers.split_whitespace().all(is_qualifier) {
        return None;
    }
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate().take(end + 1).collect::<Vec<_>>().into_iter().rev() {
        match byte {
            b')' => depth += 1,
            b'(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            // `operator()` is a name.
            return (!text[..at].trim_end().ends_with("operator") || end > at + 1).then_some(at);
        }
    }
    None
}

/// Without the spaces that nobody has to write: only those between two words stay.
fn compact(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut compact = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if compact.ends_with(is_word) && word.starts_with(is_word) {
            compact.push(' ');
        }
        compact.push_str(word);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_shown_as_they_were_written() {
        for (symbol, expected) in [
            ("step", "`step`"),
            ("api@API_2", "`api@API_2`"),
            ("_ZN6Zombie5speedEv", "`Zombie::speed()` (_ZN6Zombie5speedEv)"),
            ("_ZNK1a1b1cEi@V1", "`a::b::c(int) const@V1` (_ZNK1a1b1cEi@V1)"),
            ("_Z3maxIiET_S0_S0_", "`max<int>(int, int)` (_Z3maxIiET_S0_S0_)"),
            (
                "_ZN4core3fmt5write17h0123456789abcdefE",
                "`core::fmt::write` (_ZN4core3fmt5write17h0123456789abcdefE)",
            ),
            ("_RNvC6_123foo3bar", "`123foo::bar` (_RNvC6_123foo3bar)"),
            ("_Z", "`_Z`"),
            ("_ZN99zE", "`_ZN99zE`"),
            ("", "``"),
        ] {
            assert_eq!(Shown(symbol).to_string(), expected);
        }
    }

    /// Each is twice as long as the one before.
    #[test]
    fn names_without_end_are_not_written() {
        let mut name = String::from("_Z1fP1a1bIS0_S0_E");
        for n in ('2'..='9').chain('A'..='Z') {
            name.push_str(&format!("S1_IS{n}_S{n}_E"));
        }
        assert_eq!(Shown(&name).to_string(), format!("`{name}`"));
    }

    #[test]
    fn functions_are_wanted_by_name_parameters_or_type() {
        const METHOD: &str = "_ZNK2ns5Class6methodEfPKc";
        for (wanted, symbol, is) in [
            ("ns::Class::method", METHOD, Some(true)),
            ("ns::Class::method(float, char const*) const", METHOD, Some(true)),
            (" ns :: Class::method( float,char const * )const ", METHOD, Some(true)),
            ("ns::Class::method(float)", METHOD, Some(false)),
            ("ns::Class::method(float, char const*)", METHOD, Some(false)),
            ("ns::Class::method of type MN2ns5ClassEKFvfPKcE", METHOD, Some(true)),
            ("ns::Class::method of type MN2ns5ClassEKDoFvfPKcE", METHOD, Some(true)),
            ("ns::Class::method of type FvfE", METHOD, Some(false)),
            ("ns::Class::method of type nonsense", METHOD, Some(false)),
            ("method", METHOD, None),
            ("max<int>", "_Z3maxIiET_S0_S0_", Some(true)),
            ("max<int>(int, int)", "_Z3maxIiET_S0_S0_", Some(true)),
            ("F::operator()", "_ZN1FclEi", Some(true)),
            ("F::operator()(int)", "_ZN1FclEi", Some(true)),
            ("F::operator()()", "_ZN1FclEi", Some(false)),
            ("f(void (*)(int))", "_Z1fPFviE", Some(true)),
            ("core::fmt::write", "_ZN4core3fmt5write17h0123456789abcdefE", Some(true)),
            // By its own name it is found in another way.
            ("step", "step", None),
        ] {
            assert_eq!(Wanted::new(wanted).is(symbol), is, "{wanted} {symbol}");
        }
    }
}
