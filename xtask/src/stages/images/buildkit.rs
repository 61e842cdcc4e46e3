//! What `docker buildx build --progress=plain` prints: how far it is, and why it failed.

use std::collections::HashMap;

/// How many lines of the failing step are shown.
const SHOWN: usize = 20;

/// Reads the output line by line.
#[derive(Default)]
pub struct Output {
    titles: HashMap<String, String>,
    said: HashMap<String, Vec<String>>,
    failed: Option<(String, String)>,
    errors: Vec<String>,
}

impl Output {
    /// Takes a line; gives what to show as progress if it says something new.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some(error) = line.strip_prefix("ERROR: ") {
            self.errors.push(error.to_owned());
            return None;
        }
        let (id, rest) = line.strip_prefix('#')?.split_once(' ')?;
        if rest.starts_with('[') {
            self.titles.insert(id.to_owned(), rest.to_owned());
            // Steps such as `[internal] load build context` are over before they can be read.
            return (!rest.starts_with("[internal]")).then(|| rest.to_owned());
        }
        if let Some(error) = rest.strip_prefix("ERROR: ") {
            self.failed.get_or_insert_with(|| (id.to_owned(), error.to_owned()));
            return None;
        }
        // `#7 0.139 text`: what the step itself printed, after the seconds it had run.
        let (time, text) = rest.split_once(' ')?;
        time.parse::<f64>().ok()?;
        let said = self.said.entry(id.to_owned()).or_default();
        said.push(text.to_owned());
        if said.len() > SHOWN {
            said.remove(0);
        }
        let stage = self.titles.get(id)?.split_inclusive(']').next()?;
        let text = text.trim();
        (!text.is_empty()).then(|| format!("{stage} {text}"))
    }

    /// Why it failed: the step, the end of what it printed, and the error. `None` if no step is to blame.
    pub fn failure(&self) -> Option<String> {
        let Some((id, error)) = &self.failed else {
            return self.errors.last().cloned();
        };
        let title = self.titles.get(id).map_or("a step", String::as_str);
        let said = self.said.get(id).map(Vec::as_slice).unwrap_or_default();
        let said: String = said.iter().map(|line| format!("\n  | {line}")).collect();
        Some(format!("{title}\n  {}{said}", exit(error)))
    }
}

/// The end of BuildKit's error: the command it repeats is in the title already.
fn exit(error: &str) -> &str {
    error.rsplit_once("did not complete successfully: ").map_or(error, |(_, end)| end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILING: &str = r#"#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 129B done
#1 DONE 0.0s

#4 [build 1/5] FROM docker.io/library/debian:trixie-slim
#4 CACHED

#7 [build 3/5] RUN npm ci
#7 0.139 npm warn old
#7 1.141 npm error no such package
#7 ERROR: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1
------
 > [build 3/5] RUN npm ci:
0.139 npm warn old
1.141 npm error no such package
------
Dockerfile:5
--------------------
   5 | >>> RUN npm ci
--------------------
ERROR: failed to solve: process "/bin/sh -c npm ci" did not complete successfully: exit code: 1"#;

    #[test]
    fn progress_is_the_latest_step_and_what_it_prints() {
        let mut output = Output::default();
        let shown: Vec<String> = FAILING.lines().filter_map(|line| output.line(line)).collect();
        let wanted = [
            "[build 1/5] FROM docker.io/library/debian:trixie-slim",
            "[build 3/5] RUN npm ci",
            "[build 3/5] npm warn old",
            "[build 3/5] npm error no such package",
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_failure_shows_the_step_and_its_last_words() {
        let mut output = Output::default();
        FAILING.lines().for_each(|line| drop(output.line(line)));
        let wanted = "[build 3/5] RUN npm ci\n  exit code: 1\n  | npm warn old\n  | npm error no such package";
        assert_eq!(output.failure().unwrap(), wanted);
    }

    #[test]
    fn a_failure_before_any_step_is_told_too() {
        let mut output = Output::default();
        output.line("ERROR: failed to solve: dockerfile parse error on line 3: unknown instruction: RUM");
        assert!(output.failure().unwrap().contains("line 3"));
        assert_eq!(Output::default().failure(), None);
    }
}
