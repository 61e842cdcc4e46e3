//! `status --watch`: updates the screen in place on a terminal; elsewhere prints a block after each change.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex};

use anyhow::Result;
use regex_lite::Regex;

use super::text::screen;
use super::view::View;
use super::{collect, output};
use crate::clock;
use crate::deadlines;
use crate::dotenv::DotenvSource;
use crate::failure;
use crate::settings::Settings;
use crate::toolchain::Toolchain;

/// Switches to the alternate screen, hides the cursor and turns off line wrapping; `LEAVE` undoes that.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

static COLOURS: LazyLock<Regex> = LazyLock::new(|| Regex::new("\x1b\\[[0-9;]*m").expect("valid"));

/// Shows the status until the user interrupts or the reader closes standard output.
pub fn run(settings: &Settings, dotenv: &DotenvSource, toolchain: &Toolchain, json: bool) -> Result<()> {
    let live = std::io::stdout().is_terminal() && !json;
    if live {
        write_terminal(ENTER)?;
    }
    let last = Arc::new(Mutex::new(String::new()));
    let shown = Arc::clone(&last);
    toolchain.tools.report.on_interrupt(move || {
        if live {
            // Print the last status again, because the alternate screen disappears.
            let text = shown.lock().map(|text| text.clone()).unwrap_or_default();
            let _ = write_terminal(&format!("{LEAVE}{text}"));
        }
    });
    let mut before = String::new();
    while !output::is_reader_gone() {
        let (text, key) = observe(settings, dotenv, toolchain, json);
        let text = toolchain.tools.report.shown(&text);
        if live {
            write_terminal(&frame(&text))?;
            if let Ok(mut last) = last.lock() {
                *last = text;
            }
        } else if key != before {
            let text = if json { text } else { format!("-- {}\n{text}", clock::rfc3339(clock::now())) };
            if !output::print(text.trim_end())? {
                return Ok(());
            }
            before = key;
        }
        std::thread::sleep(deadlines::STATUS_POLL.time());
    }
    Ok(())
}

/// Returns the text to show, and the key that tells whether something changed. An error does not end the watch, because
/// the cluster may fail to respond for a moment.
fn observe(settings: &Settings, dotenv: &DotenvSource, toolchain: &Toolchain, json: bool) -> (String, String) {
    match collect(settings, dotenv, toolchain, false) {
        Ok((.., view)) if json => {
            let key = screen(&view, None);
            (json_line(&view), key)
        }
        Ok((.., view)) => (screen(&view, Some(clock::now())), screen(&view, None)),
        Err(error) if json => {
            let at = clock::rfc3339(clock::now());
            (serde_json::json!({"at": at, "error": failure::message(&error)}).to_string(), error.to_string())
        }
        Err(error) => (format!("cannot read the status: {}", failure::message(&error)), error.to_string()),
    }
}

/// Returns the time and the view as one line of JSON.
fn json_line(view: &View) -> String {
    let mut object = serde_json::json!({"at": clock::rfc3339(clock::now())});
    if let (Some(object), Ok(serde_json::Value::Object(view))) = (object.as_object_mut(), serde_json::to_value(view)) {
        object.extend(view);
    }
    object.to_string()
}

/// Returns `text` with escape codes that overwrite the previous screen, cut to the terminal's height.
fn frame(text: &str) -> String {
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(50, |size| usize::from(size.ws_row));
    let lines: Vec<String> = text.lines().take(rows.saturating_sub(1)).map(|line| format!("{line}\x1b[K\n")).collect();
    format!("\x1b[H{}\x1b[J", lines.concat())
}

/// Writes to the terminal. Removes colours if they are off, and keeps the codes that move the cursor.
fn write_terminal(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let plain = anstream::AutoStream::choice(&out) == anstream::ColorChoice::Never;
    let text = if plain { COLOURS.replace_all(text, "") } else { text.into() };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
