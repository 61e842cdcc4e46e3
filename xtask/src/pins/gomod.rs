//! The modules of a go.mod. Go reads that file itself, so tests compare its pins instead of rendering them.

use std::collections::BTreeMap;

/// The modules of one go.mod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoMod {
    requires: BTreeMap<String, String>,
    replaces: BTreeMap<String, Replacement>,
}

/// The replacement of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Replacement {
    /// Another version, of the same or of another module.
    Version(String),
    /// A folder: its files are compiled, and the required version has no effect.
    Folder,
}

/// The version of a module that is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version<'a> {
    /// A version of the module proxy, with the `v`.
    Of(&'a str),
    /// A folder beside go.mod.
    Folder,
}

impl GoMod {
    /// Parses the directives `require` and `replace`, as blocks or single lines.
    pub fn parse(text: &str) -> Self {
        let mut this = Self::default();
        let mut block = None;
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let (directive, rest) = match block {
                Some(directive) => (directive, line),
                None => line.split_once(char::is_whitespace).unwrap_or((line, "")),
            };
            match (rest.trim(), block) {
                ("(", None) => block = Some(directive),
                (")", Some(_)) => block = None,
                (entry, _) => this.add(directive, &entry.split_whitespace().collect::<Vec<_>>()),
            }
        }
        this
    }

    fn add(&mut self, directive: &str, words: &[&str]) {
        match (directive, words) {
            ("require", [module, version]) => {
                self.requires.insert((*module).to_owned(), (*version).to_owned());
            }
            ("replace", [module, "=>", _, version] | [module, _, "=>", _, version]) => {
                self.replaces.insert((*module).to_owned(), Replacement::Version((*version).to_owned()));
            }
            ("replace", [module, "=>", _] | [module, _, "=>", _]) => {
                self.replaces.insert((*module).to_owned(), Replacement::Folder);
            }
            _ => {}
        }
    }

    /// Returns each required module with the version that is compiled.
    pub fn modules(&self) -> impl Iterator<Item = (&str, Version<'_>)> {
        self.requires.iter().map(|(module, required)| {
            let version = match self.replaces.get(module) {
                Some(Replacement::Version(version)) => Version::Of(version),
                Some(Replacement::Folder) => Version::Folder,
                None => Version::Of(required),
            };
            (module.as_str(), version)
        })
    }

    /// Returns the version of `module` in `require`, if it is there.
    #[cfg(test)]
    pub fn required(&self, module: &str) -> Option<&str> {
        self.requires.get(module).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_every_kind_of_replacement_are_read() {
        let text = "module m\n\ngo 1.26.0\n\ntool a.b/c\n\nrequire a.b/c v1.0.0 // indirect\n\nrequire (\n\td.e/f v2.0.0\n\
            \tg.h/i v0.0.0-00010101000000-000000000000\n\tj.k/l v3.0.0\n)\n\nreplace j.k/l v3.0.0 => j.k/l v3.0.1\n\n\
            replace (\n\tg.h/i => ./patched/g.h/i\n\td.e/f => other/f v2.1.0\n)\n";
        let parsed = GoMod::parse(text);
        let modules: Vec<_> = parsed.modules().collect();
        let expected = [
            ("a.b/c", Version::Of("v1.0.0")),
            ("d.e/f", Version::Of("v2.1.0")),
            ("g.h/i", Version::Folder),
            ("j.k/l", Version::Of("v3.0.1")),
        ];
        assert_eq!(modules, expected);
        assert_eq!(parsed.required("d.e/f"), Some("v2.0.0"));
    }
}
