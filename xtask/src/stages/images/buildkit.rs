//! Reads progress and errors from the output of `docker buildx build --progress=plain`.

use std::collections::HashMap;

/// Maximum number of lines of the failing step in an error.
const MAX_LINES: usize = 20;

/// The output of a build, read line by line.
#[derive(Default)]
pub struct BuildOutput {
    titles: HashMap<String, String>,
    printed: HashMap<String, Vec<String>>,
    failed: Option<(String, String)>,
    errors: Vec<String>,
}

impl BuildOutput {
    /// Reads a line. Returns the text to show as progress, if the line has any.
    pub fn read_line(&mut self, line: &str) -> Option<String> {
        if let Some(error) = line.strip_prefix("ERROR: ") {
            self.errors.push(error.to_owned());
            return None;
        }
        let (id, rest) = line.strip_prefix('#')?.split_once(' ')?;
        if rest.starts_with('[') {
            self.titles.insert(id.to_owned(), rest.to_owned());
            // Steps such as `[internal] load build context` take too little time to show.
            return (!rest.starts_with("[internal]")).then(|| rest.to_owned());
        }
        if let Some(error) = rest.strip_prefix("ERROR: ") {
            self.failed.get_or_insert_with(|| (id.to_owned(), error.to_owned()));
            return None;
        }
        // `#7 0.139 text`: a line that the step printed, after its seconds so far.
        let (time, text) = rest.split_once(' ')?;
        time.parse::<f64>().ok()?;
        let printed = self.printed.entry(id.to_owned()).or_default();
        printed.push(text.to_owned());
        if printed.len() > MAX_LINES {
            printed.remove(0);
        }
        let stage = self.titles.get(id)?.split_inclusive(']').next()?;
        let text = text.trim();
        (!text.is_empty()).then(|| format!("{stage} {text}"))
    }

    /// Returns the failed step, its error and its last lines, or the error of a build without a failed step.
    pub fn failure(&self) -> Option<String> {
        let Some((id, error)) = &self.failed else {
            return self.errors.last().cloned();
        };
        let title = self.titles.get(id).map_or("a step", String::as_str);
        let printed = self.printed.get(id).map(Vec::as_slice).unwrap_or_default();
        let printed: String = printed.iter().map(|line| format!("\n  | {line}")).collect();
        Some(format!("{title}\n  {}{printed}", shorten_error(error)))
    }
}

/// Returns BuildKit's error without the command, which the step's title has already.
fn shorten_error(error: &str) -> &str {
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
    fn shows_the_latest_step_and_its_output_as_progress() {
        let mut output = BuildOutput::default();
        let shown: Vec<String> = FAILING.lines().filter_map(|line| output.read_line(line)).collect();
        let wanted = [
            "[build 1/5] FROM docker.io/library/debian:trixie-slim",
            "[build 3/5] RUN npm ci",
            "[build 3/5] npm warn old",
            "[build 3/5] npm error no such package",
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn shows_the_failed_step_and_its_last_lines() {
        let mut output = BuildOutput::default();
        FAILING.lines().for_each(|line| drop(output.read_line(line)));
        let wanted = "[build 3/5] RUN npm ci\n  exit code: 1\n  | npm warn old\n  | npm error no such package";
        assert_eq!(output.failure().unwrap(), wanted);
    }

    #[test]
    fn shows_an_error_before_the_first_step() {
        let mut output = BuildOutput::default();
        output.read_line("ERROR: failed to solve: dockerfile parse error on line 3: unknown instruction: RUM");
        assert!(output.failure().unwrap().contains("line 3"));
        assert_eq!(BuildOutput::default().failure(), None);
    }
}
