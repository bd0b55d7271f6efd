//! The record of a load: what it has come to, in words that can be kept, compared and written as
//! JSON.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use midflight_interface::ChangedFunctions;

use super::{Attempt, Event};
use crate::error::NotCarried;
use crate::platform::files::ContentHash;
use crate::{Error, ErrorKind, ModuleVersion, Publication, Replaced};

/// What a load or a rollback has come to: [`Record::of`] its event. What is not known is `None`,
/// and never a guess.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Record {
    /// What has come of it.
    pub outcome: Outcome,
    /// The generation that is current by it. None: nothing was published.
    pub generation: Option<u64>,
    /// Why it was refused or rolled back, or what is wrong with what was published.
    pub error: Option<(ErrorKind, String)>,
    /// From the call to its end.
    pub took: Duration,
    /// It was the load of a watched file that was written again.
    pub watched: bool,
    /// The modules, in the order of the call; of a transaction those first that were loaded, then
    /// those that are back, then those that are gone.
    pub modules: Vec<ModuleRecord>,
}

/// What has come of a load or a rollback.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// [`Event::Published`].
    Published,
    /// [`Event::Refused`] and [`Event::NotRolledBack`].
    Refused,
    /// [`Event::Damaged`].
    Damaged,
    /// [`Event::RolledBack`].
    RolledBack,
}

/// What has become of one module.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ModuleRecord {
    /// Its name. None: its file was refused before that was read.
    pub module: Option<String>,
    /// The file, or the first of its files.
    pub path: Option<PathBuf>,
    /// Of all that its files hold.
    pub content: Option<ContentHash>,
    /// The version that is current by this. None: it was refused, or is gone.
    pub version: Option<u64>,
    /// The version that was current before; of a load that was refused, and still is. None: none
    /// was, or it did not come to look.
    pub before: Option<Replaced>,
    /// What has become of its variables.
    pub state: ModuleState,
    /// How many of them go on with the values that they had.
    pub carried: usize,
    /// Those that begin anew, although they were to be carried over.
    pub anew: Vec<NotCarried>,
}

/// What has become of a module's variables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub enum ModuleState {
    /// They begin: nothing was there before.
    New,
    /// They begin anew: what the version before had in them is not carried over.
    Lost,
    /// They go on with the values that they had, all or [some](ModuleRecord::anew).
    Carried,
    /// They are as the version left them that is current again.
    AsLeft,
    /// The module was taken out, and they with it.
    Gone,
    /// Nothing was published: what is loaded goes on with its own.
    Untouched,
}

impl Record {
    /// The record of an event that ends a load or a rollback; of others there is none.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        let told = |error: &Error| Some((error.kind(), error.to_string()));
        let (outcome, publication, error, took, watched) = match *event {
            Event::Published { publication, took, watched } => {
                (Outcome::Published, publication, None, took, watched)
            }
            Event::Damaged { publication, error, took, watched } => {
                (Outcome::Damaged, publication, told(error), took, watched)
            }
            Event::RolledBack { publication, damaged, took, watched } => {
                (Outcome::RolledBack, publication, damaged.and_then(|(_, error)| told(error)), took, watched)
            }
            Event::Refused { files, error, took, watched } => {
                let modules = files.iter().map(ModuleRecord::refused).collect();
                let (outcome, generation, error) = (Outcome::Refused, None, told(error));
                return Some(Self { outcome, generation, error, took, watched, modules });
            }
            Event::NotRolledBack { error, took } => {
                let (outcome, generation, error) = (Outcome::Refused, None, told(error));
                return Some(Self { outcome, generation, error, took, watched: false, modules: Vec::new() });
            }
            Event::Unloaded { .. }
            | Event::Retained(_)
            | Event::Retired(_)
            | Event::Watched { .. }
            | Event::Unwatched { .. }
            | Event::WatchFailed { .. }
            | Event::Stopped { .. } => return None,
        };
        let Publication { generation, modules, back, gone, .. } = publication;
        let new = modules.iter().map(|module| ModuleRecord::published(module, outcome));
        let modules = new.map(|record| record.carrying(publication));
        let back = back.iter().map(|module| ModuleRecord::published(module, Outcome::RolledBack));
        let modules = modules.chain(back).chain(gone.iter().map(ModuleRecord::gone)).collect();
        Some(Self { outcome, generation: Some(*generation), error, took, watched, modules })
    }

    /// As one line of JSON. In paths, what is not UTF-8 is written as U+FFFD.
    pub fn to_json(&self) -> String {
        let mut json = String::new();
        // Writing to a string does not fail.
        let _ = write!(json, "{}", Json(self));
        json
    }
}

impl ModuleRecord {
    fn published(of: &ModuleVersion, outcome: Outcome) -> Self {
        let state = match (&of.replaced, outcome) {
            (_, Outcome::RolledBack) => ModuleState::AsLeft,
            (None, _) => ModuleState::New,
            (Some(_), _) => ModuleState::Lost,
        };
        Self {
            module: Some(of.name.clone()),
            path: Some(of.path.clone()),
            content: of.content,
            version: Some(of.version),
            before: of.replaced.clone(),
            state,
            carried: 0,
            anew: Vec::new(),
        }
    }

    /// With what the publication has carried over.
    fn carrying(mut self, publication: &Publication) -> Self {
        let is_this = |module: &str| self.module.as_deref() == Some(module);
        let carried = publication.carried.iter().find(|(module, _)| is_this(module));
        self.carried = carried.map_or(0, |(_, count)| *count);
        self.anew = publication.anew.iter().filter(|one| is_this(&one.module)).cloned().collect();
        if self.carried > 0 {
            self.state = ModuleState::Carried;
        }
        self
    }

    fn gone(of: &ModuleVersion) -> Self {
        Self {
            module: Some(of.name.clone()),
            path: Some(of.path.clone()),
            content: None,
            version: None,
            before: Some(Replaced { version: of.version, content: of.content, functions: None }),
            state: ModuleState::Gone,
            carried: 0,
            anew: Vec::new(),
        }
    }

    fn refused(of: &Attempt) -> Self {
        Self {
            module: of.module.as_deref().map(Into::into),
            path: of.path.clone(),
            content: of.content,
            version: None,
            before: of.loaded.clone(),
            state: ModuleState::Untouched,
            carried: 0,
            anew: Vec::new(),
        }
    }

    /// Whether its files hold what those of the version held that was current before. None: not
    /// known, or there was none.
    pub fn is_unchanged(&self) -> Option<bool> {
        Some(self.content? == self.before.as_ref()?.content?)
    }

    /// How its functions differ from those of the version before. None: not known.
    pub fn functions(&self) -> Option<&ChangedFunctions> {
        self.before.as_ref()?.functions.as_ref()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::RolledBack => "rolled back",
        })
    }
}

impl fmt::Display for ModuleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Lost => "lost",
            Self::Carried => "carried",
            Self::AsLeft => "as left",
            Self::Gone => "gone",
            Self::Untouched => "untouched",
        })
    }
}

/// A value as JSON.
struct Json<T>(T);

/// A string (RFC 8259, 7).
impl fmt::Display for Json<&str> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // Lines end there for some readers, and terminals obey the others.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

impl fmt::Display for Json<&[String]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0, |f, name| Json(name.as_str()).fmt(f))
    }
}

impl fmt::Display for Json<&Record> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { outcome, generation, error, took, watched, modules } = self.0;
        write!(f, "{{\"outcome\":\"{outcome}\",\"generation\":")?;
        or_null(f, *generation, |f, generation| write!(f, "{generation}"))?;
        write!(f, ",\"took_ns\":{},\"watched\":{watched},\"error\":", took.as_nanos())?;
        or_null(f, error.as_ref(), |f, (kind, message)| {
            write!(f, "{{\"kind\":\"{kind:?}\",\"message\":{}}}", Json(message.as_str()))
        })?;
        f.write_str(",\"modules\":")?;
        list(f, modules, |f, module| Json(module).fmt(f))?;
        f.write_char('}')
    }
}

impl fmt::Display for Json<&ModuleRecord> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ModuleRecord { module, path, content, version, before, state, carried, anew } = self.0;
        f.write_str("{\"module\":")?;
        or_null(f, module.as_deref(), |f, name| Json(name).fmt(f))?;
        f.write_str(",\"path\":")?;
        or_null(f, path.as_ref(), |f, path| Json(&*path.to_string_lossy()).fmt(f))?;
        f.write_str(",\"content\":")?;
        or_null(f, *content, |f, hash| write!(f, "\"{hash}\""))?;
        f.write_str(",\"version\":")?;
        or_null(f, *version, |f, version| write!(f, "{version}"))?;
        f.write_str(",\"before\":")?;
        or_null(f, before.as_ref(), |f, Replaced { version, content, .. }| {
            write!(f, "{{\"version\":{version},\"content\":")?;
            or_null(f, *content, |f, hash| write!(f, "\"{hash}\""))?;
            f.write_char('}')
        })?;
        f.write_str(",\"unchanged\":")?;
        or_null(f, self.0.is_unchanged(), |f, unchanged| write!(f, "{unchanged}"))?;
        f.write_str(",\"functions\":")?;
        or_null(f, self.0.functions(), |f, functions| {
            let ChangedFunctions { changed, added, removed, unknown, .. } = functions;
            let [changed, added, removed, unknown] =
                [changed, added, removed, unknown].map(|names| Json(names.as_slice()));
            write!(f, "{{\"changed\":{changed},\"added\":{added},")?;
            write!(f, "\"removed\":{removed},\"unknown\":{unknown}}}")
        })?;
        write!(f, ",\"state\":\"{state}\"")?;
        if *carried > 0 || !anew.is_empty() {
            write!(f, ",\"carried\":{carried},\"anew\":")?;
            list(f, anew, |f, NotCarried { variable, reason, .. }| {
                write!(f, "{{\"variable\":{},\"reason\":{}}}", Json(&**variable), Json(&**reason))
            })?;
        }
        f.write_char('}')
    }
}

fn or_null<T>(
    f: &mut fmt::Formatter<'_>,
    value: Option<T>,
    write: impl FnOnce(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    match value {
        Some(value) => write(f, value),
        None => f.write_str("null"),
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    f.write_char('[')?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_char(',')?;
        }
        write(f, item)?;
    }
    f.write_char(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_strings_of_json() {
        let cases = [
            ("plain", r#""plain""#),
            ("", r#""""#),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("line\nbreak\r\ttab\0", r#""line\u000abreak\u000d\u0009tab\u0000""#),
            ("\u{1b}[31m\u{7f}\u{9b}", r#""\u001b[31m\u007f\u009b""#),
            ("\u{2028}\u{2029}", r#""\u2028\u2029""#),
            ("{}[],:\u{1f600}é", "\"{}[],:\u{1f600}é\""),
        ];
        for (name, expected) in cases {
            assert_eq!(Json(name).to_string(), expected, "{name:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let error = Error::NotLoaded { module: "a\"b".into() };
        let files = [Attempt::new(Some("/a\nb".as_ref()))];
        let took = Duration::from_nanos(7);
        let event = Event::Refused { files: &files, error: &error, took, watched: true };
        let json = Record::of(&event).expect("it ends a load").to_json();
        assert!(json.starts_with(
            r#"{"outcome":"refused","generation":null,"took_ns":7,"watched":true,"error":{"kind":"NotLoaded","message":""#
        ), "{json}");
        assert!(json.ends_with(
            r#""modules":[{"module":null,"path":"/a\u000ab","content":null,"version":null,"before":null,"unchanged":null,"functions":null,"state":"untouched"}]}"#
        ), "{json}");
        assert!(!json.contains('\n'), "one line");
    }

    #[test]
    fn a_list_of_names_is_one() {
        let names = ["f".to_owned(), "g\"".to_owned()];
        assert_eq!(Json(&names[..]).to_string(), r#"["f","g\""]"#);
        assert_eq!(Json(&names[..0]).to_string(), "[]");
    }
}
