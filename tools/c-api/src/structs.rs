//! Structs in C: the same fields in the document and in the headers, in the same order, at the same
//! offsets, of the same sizes.

use std::path::Path;

/// A `typedef struct { ... } NAME;`.
struct Struct<'t> {
    name: &'t str,
    fields: Vec<&'t str>,
}

const BEGIN: &str = "typedef struct {";

pub(crate) fn has_struct(block: &str) -> bool {
    block.lines().any(|line| line.starts_with(BEGIN))
}

/// A program that compiles if the block's structs are laid out as those of the headers.
///
/// # Errors
///
/// If their fields are others.
pub(crate) fn comparison(block: &str, headers: &str) -> Result<String, String> {
    let (block, headers) = (without_comments(block), without_comments(headers));
    let known = structs(&headers);
    let mut program = String::from("#include \"runtime_api.h\"\n#include <assert.h>\n");
    let documented = structs(&block);
    for one in &documented {
        program += &format!("#define {0} documented_{0}\n", one.name);
    }
    program += "#include BLOCK\n";
    for one in &documented {
        let name = one.name;
        let found = known.iter().find(|known| known.name == name);
        let found = found.ok_or_else(|| format!("no header has {name}"))?;
        if one.fields.is_empty() || one.fields != found.fields {
            return Err(format!(
                "{name}\ndocument: {}\nheader:   {}",
                one.fields.join(" "),
                found.fields.join(" ")
            ));
        }
        program += &format!(
            "#undef {name}\nstatic_assert(sizeof(documented_{name}) == sizeof({name}), \"size\");\n"
        );
        for field in &one.fields {
            program += &format!(
                "static_assert(offsetof(documented_{name}, {field}) == offsetof({name}, {field}), \"{field}: offset\");\n\
                 static_assert(sizeof(((documented_{name}*)0)->{field}) == sizeof((({name}*)0)->{field}), \"{field}: size\");\n"
            );
        }
    }
    if documented.is_empty() {
        return Err("no struct in the block has a name".into());
    }
    Ok(program + "int main(void) { return 0; }\n")
}

/// The text of all headers in a folder's files.
pub(crate) fn headers(files: &[std::path::PathBuf]) -> Result<String, String> {
    files.iter().map(|file: &std::path::PathBuf| crate::bench::read(Path::new(file))).collect()
}

/// C has spaces where comments were; what is in strings is of no matter here.
fn without_comments(text: &str) -> String {
    let (mut left, mut rest) = (String::new(), text);
    loop {
        let Some(at) = [rest.find("/*"), rest.find("//")].into_iter().flatten().min() else {
            return left + rest;
        };
        left += &rest[..at];
        left.push(' ');
        let end = if rest[at..].starts_with("//") { "\n" } else { "*/" };
        let Some(length) = rest[at + 2..].find(end) else { return left };
        // The line's end is not part of the comment.
        rest = &rest[at + 2 + length + if end == "\n" { 0 } else { 2 }..];
    }
}

fn structs(text: &str) -> Vec<Struct<'_>> {
    let mut found = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let Some((body, behind)) = part.split_once('}') else { continue };
        let Some((name, _)) = behind.split_once(';') else { continue };
        let fields = body.split(';').filter_map(field).collect();
        found.push(Struct { name: name.trim(), fields });
    }
    found
}

/// The name in `TYPE NAME`, `TYPE NAME[SIZE]` and `TYPE (*NAME)(TYPES)`.
fn field(declaration: &str) -> Option<&str> {
    let declaration = match declaration.split_once("(*") {
        Some((_, pointer)) => pointer.split(')').next()?,
        None => declaration.split('[').next()?,
    };
    declaration.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').rfind(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "typedef struct {\n    int a; // one; two\n    /* typedef struct { */ const char *b;\n    char c[3];\n\
                          void (*d)(int e, int f);\n} t;\n";

    #[test]
    fn fields_are_found() {
        let text = without_comments(HEADER);
        let [one] = &structs(&text)[..] else { panic!("{text}") };
        assert_eq!((one.name, &one.fields[..]), ("t", &["a", "b", "c", "d"][..]));
    }

    #[test]
    fn other_fields_are_an_error() {
        assert!(comparison(HEADER, HEADER).unwrap().contains("offsetof(documented_t, d)"));
        for other in ["int a;", "int a; const char *b; char d[3]; void (*c)(void);"] {
            let other = format!("typedef struct {{ {other} }} t;");
            assert!(comparison(&other, HEADER).unwrap_err().starts_with("t\n"), "{other}");
        }
        assert!(comparison("typedef struct { int a; } u;", HEADER).unwrap_err().contains("no header has u"));
    }
}
