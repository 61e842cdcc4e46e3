//! `infra/release.toml`: the official downloads. Unknown and missing keys are errors.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use camino::Utf8Path;
use clap::ValueEnum;
use serde::Deserialize;

use crate::failure::{Class, Failure};
use crate::origin::Tool;
use crate::pins;

/// The manifest's place in the repository.
pub const FILE: &str = "infra/release.toml";

/// A supported operating system and processor. Others lack official downloads of some tool, or nobody has tried them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux on x86-64.
    LinuxAmd64,
    /// Linux on 64-bit Arm.
    LinuxArm64,
    /// macOS on an Intel processor.
    DarwinAmd64,
    /// macOS on Apple silicon.
    DarwinArm64,
}

impl Platform {
    const ALL: [Self; 4] = [Self::LinuxAmd64, Self::LinuxArm64, Self::DarwinAmd64, Self::DarwinArm64];

    /// Returns the platform of this machine, if xtask supports it.
    pub fn here() -> Option<Self> {
        Self::of(std::env::consts::OS, std::env::consts::ARCH)
    }

    fn of(os: &str, arch: &str) -> Option<Self> {
        match (os, arch) {
            ("linux", "x86_64") => Some(Self::LinuxAmd64),
            ("linux", "aarch64") => Some(Self::LinuxArm64),
            ("macos", "x86_64") => Some(Self::DarwinAmd64),
            ("macos", "aarch64") => Some(Self::DarwinArm64),
            _ => None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinuxAmd64 => "linux-amd64",
            Self::LinuxArm64 => "linux-arm64",
            Self::DarwinAmd64 => "darwin-amd64",
            Self::DarwinArm64 => "darwin-arm64",
        })
    }
}

/// The content of `infra/release.toml`: the tools by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Manifest(BTreeMap<Named, ToolRelease>);

/// A tool's version and its downloads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ToolRelease {
    version: String,
    linux_amd64: Option<Download>,
    linux_arm64: Option<Download>,
    darwin_amd64: Option<Download>,
    darwin_arm64: Option<Download>,
}

impl ToolRelease {
    fn on(&self, platform: Platform) -> Option<&Download> {
        match platform {
            Platform::LinuxAmd64 => self.linux_amd64.as_ref(),
            Platform::LinuxArm64 => self.linux_arm64.as_ref(),
            Platform::DarwinAmd64 => self.darwin_amd64.as_ref(),
            Platform::DarwinArm64 => self.darwin_arm64.as_ref(),
        }
    }
}

/// One file to download.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Its address.
    pub url: String,
    /// Its SHA-256 in 64 lower-case hex digits.
    pub sha256: String,
    /// The program in it, if it is a `.tar.gz`; otherwise it is the program.
    pub member: Option<String>,
    /// The public file that the checksum was read from: `owner/repository@commit:path`.
    pub cite: String,
}

/// A tool by its name on the command line, so that one list of names serves both.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Named(Tool);

impl TryFrom<String> for Named {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Tool::from_str(&name, false).map(Self).map_err(|_| format!("there is no tool `{name}`"))
    }
}

impl Manifest {
    /// Reads the manifest of the checkout `root`, with the pins in place of their names.
    pub fn read(root: &Utf8Path) -> Result<Self> {
        Self::parse(&pins::read_rendered(root, FILE)?)
    }

    /// Parses and checks a manifest.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: String| Failure::new(Class::Config, what).help(format!("edit {FILE}; see its first lines"));
        let manifest: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| pins::line_of(text, span.start));
            wrong(format!("{FILE}:{line}: {}", error.message()))
        })?;
        for (tool, platform, download) in manifest.downloads() {
            if let Some(what) = download.fault() {
                return Err(wrong(format!("{FILE}: [{}.{platform}] {what}", name(tool))).into());
            }
        }
        Ok(manifest)
    }

    /// Returns the version and the download of `tool` for `platform`, or the reason why there is none.
    pub fn offer(&self, tool: Tool, platform: Option<Platform>) -> Result<(&str, &Download), String> {
        let machine = || format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
        let Some(platform) = platform else {
            return Err(format!("{} is not one of its platforms (Linux amd64 and arm64, macOS arm64)", machine()));
        };
        let release = self.0.get(&Named(tool)).ok_or_else(|| format!("{FILE} has no [{}]", name(tool)))?;
        let download = release.on(platform).ok_or_else(|| {
            format!("no public file was found that states a checksum of its download for {platform}, see {FILE}")
        })?;
        Ok((&release.version, download))
    }

    fn downloads(&self) -> impl Iterator<Item = (Tool, Platform, &Download)> {
        let every = self.0.iter().flat_map(|entry| Platform::ALL.map(|platform| (entry, platform)));
        every.filter_map(|((tool, release), platform)| Some((tool.0, platform, release.on(platform)?)))
    }
}

impl Download {
    /// Returns the first mistake in the entry, if there is one.
    fn fault(&self) -> Option<String> {
        let hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let cited = self.cite.split_once('@').and_then(|(repository, rest)| Some((repository, rest.split_once(':')?)));
        let cited = cited.is_some_and(|(repository, (commit, path))| {
            repository.split('/').count() == 2 && hex(commit, 40) && !path.is_empty()
        });
        let archive = self.url.ends_with(".tar.gz") || self.url.ends_with(".tgz");
        if !(self.url.starts_with("https://") || self.url.starts_with("http://127.0.0.1:")) {
            Some(format!("url must be https: {}", self.url))
        } else if !hex(&self.sha256, 64) {
            Some(format!("sha256 must be 64 lower-case hex digits, not `{}`", self.sha256))
        } else if !cited {
            Some(format!("cite must be `owner/repository@commit:path` with the whole commit, not `{}`", self.cite))
        } else if archive != self.member.is_some() {
            Some("member is for a .tar.gz, and needed there".to_owned())
        } else {
            None
        }
    }
}

/// Returns a tool's name as in the manifest and on the command line.
pub fn name(tool: Tool) -> String {
    tool.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    static REAL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| pins::read_rendered(&crate::checkout::find(None), FILE).unwrap());

    #[test]
    fn the_real_file_offers_every_tool_on_every_platform_and_cites_each_checksum() {
        let manifest = Manifest::parse(&REAL).unwrap();
        for tool in Tool::value_variants() {
            for platform in Platform::ALL {
                let (version, download) = manifest.offer(*tool, Some(platform)).unwrap();
                assert!(version.starts_with('v') && download.url.contains(&version[1..]), "{}", download.url);
                assert!(download.url.starts_with("https://"), "{}", download.url);
                assert_eq!(download.fault(), None);
            }
        }
        let mut sums: Vec<_> = manifest.downloads().map(|(_, _, download)| &download.sha256).collect();
        let count = sums.len();
        sums.sort_unstable();
        sums.dedup();
        assert_eq!(sums.len(), count, "two downloads with one checksum: a slip of copying");
    }

    #[test]
    fn kubectl_is_of_the_clusters_version() {
        let settings = crate::settings::Settings::read(&crate::checkout::find(None)).unwrap();
        let manifest = Manifest::parse(&REAL).unwrap();
        let (version, _) = manifest.offer(Tool::Kubectl, Some(Platform::LinuxAmd64)).unwrap();
        assert_eq!(settings.cluster.kubernetes, version);
    }

    #[test]
    fn reports_where_mistakes_are() {
        let cases = [
            ("[kubectl]\nversion = \"v1\"\n[helmm]\nversion = \"v1\"\n", "there is no tool `helmm`"),
            (&REAL.replacen("https:", "ftp:", 1), "url must be https"),
            (&REAL.replacen("sha256 = \"0", "sha256 = \"", 1), "sha256 must be 64"),
            (&REAL.replacen("@eb25", "@", 1), "cite must be"),
            (&REAL.replacen("\nmember", "\nmenber", 1), "unknown field `menber`"),
            (&REAL.replacen("[helm.linux-arm64]", "[helm.linux-arm]", 1), "unknown field `linux-arm`"),
        ];
        for (text, says) in cases {
            let error = Manifest::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(FILE) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn explains_a_missing_download() {
        let text = REAL.replacen("[helm.darwin-arm64]", "[gone]", 1);
        let cut = &text[..text.find("[gone]").unwrap()];
        let manifest = Manifest::parse(cut).unwrap();
        let why = |tool, platform| manifest.offer(tool, platform).unwrap_err();
        assert!(why(Tool::Helm, Some(Platform::DarwinArm64)).contains("states a checksum"));
        assert!(why(Tool::Gitleaks, Some(Platform::LinuxAmd64)).contains("has no [gitleaks]"));
        assert!(why(Tool::Helm, None).contains("is not one of its platforms"));
    }

    #[test]
    fn platforms_by_rusts_names() {
        assert_eq!(Platform::of("linux", "x86_64"), Some(Platform::LinuxAmd64));
        assert_eq!(Platform::of("macos", "aarch64"), Some(Platform::DarwinArm64));
        assert_eq!(Platform::of("macos", "x86_64"), Some(Platform::DarwinAmd64));
        assert_eq!(Platform::of("freebsd", "x86_64"), None);
    }
}
