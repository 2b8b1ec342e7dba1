//! The files that a path means, in order of their names.

use super::IngestError;
use super::format::{Kind, kind};
use super::remote::{self, Listed, Object, Remote, Resolved};
use globset::{GlobBuilder, GlobMatcher};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The files found for a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that will be read, in order.
    pub files: Vec<String>,
    /// Those in folders that were passed over, because their names do not say that they are input.
    pub passed_over: Vec<String>,
    /// Objects that would be read, and whose keys can't be asked for.
    pub unnamed: Vec<String>,
}

/// Finds the files of `path`: itself, those below a folder or a bucket's prefix, or those that match a glob.
///
/// In folders and globs, files of other kinds than the input `takes` are passed over, and so are hidden ones.
pub fn find(path: &str, takes: impl Fn(Kind) -> bool) -> Result<Found, IngestError> {
    let local = match remote::resolve(path).map_err(|source| IngestError::Io { what: "find", path: path.into(), source })? {
        Resolved::Local(local) => local,
        Resolved::Remote(Remote::Object(object)) => return find_objects(path, &object, takes),
        Resolved::Remote(Remote::Web(_)) | Resolved::Unknown => return Err(IngestError::UnsupportedUrl { path: path.into() }),
    };
    let named = |file: &Path| remote::location(file).map_err(|source| IngestError::Io { what: "find", path: path.into(), source });
    match (std::fs::metadata(&local), local.to_str()) {
        (Ok(metadata), _) if metadata.is_dir() => walk(path, &local, takes, |_| true),
        (Ok(_), _) => Ok(Found { files: vec![named(&local)?], ..Found::default() }),
        (Err(_), Some(text)) if has_wildcard(text) => {
            let matcher = glob(text)?;
            walk(path, &root_of(&local), takes, |file| matcher.is_match(file))
        }
        (Err(source), _) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(IngestError::NotFound { path: path.into(), passed_over: Vec::new() })
        }
        (Err(source), _) => Err(IngestError::Io { what: "find", path: path.into(), source }),
    }
}

fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '[', '{'])
}

fn glob(path: &str) -> Result<GlobMatcher, IngestError> {
    let glob = GlobBuilder::new(path).literal_separator(true).build();
    Ok(glob.map_err(|error| IngestError::BadGlob { path: path.into(), why: error.kind().to_string() })?.compile_matcher())
}

fn find_objects(path: &str, object: &Object, takes: impl Fn(Kind) -> bool) -> Result<Found, IngestError> {
    let failed = |what| move |source| IngestError::Io { what, path: path.into(), source };
    let globbed = has_wildcard(object.key());
    let mut denied = None;
    // A key may have characters of a glob in it: what is there is meant.
    if !path.ends_with('/') && !object.key().is_empty() {
        match remote::size(object) {
            Ok(Some(_)) => return Ok(Found { files: vec![path.into()], ..Found::default() }),
            Ok(None) => {}
            Err(_) if globbed => {}
            // The answer to such a question has no words; that to the next one has.
            Err(error) => denied = Some(error),
        }
    }
    let (folder, matcher) = if globbed {
        let plain = object.key().split('/').take_while(|part| !has_wildcard(part)).collect::<Vec<_>>().join("/");
        (format!("{}/{plain}", object.bucket()), Some(glob(path)?))
    } else {
        (path.trim_end_matches('/').to_string(), None)
    };
    let Resolved::Remote(Remote::Object(prefix)) = remote::resolve(&folder).map_err(failed("find"))? else {
        return Err(IngestError::NotFound { path: path.into(), passed_over: Vec::new() });
    };
    let mut found = Found::default();
    let is_hidden = |part: &str| part.starts_with('.') && part != "." && part != "..";
    let is_wanted = |url: &String| {
        let below = url.strip_prefix(&folder).unwrap_or(url);
        matcher.as_ref().is_none_or(|matcher| matcher.is_match(url)) && !below.split('/').any(is_hidden)
    };
    let Listed { urls, unnamed } = remote::list(&prefix).map_err(failed("list"))?;
    for url in urls.into_iter().filter(is_wanted) {
        if kind(&url).is_some_and(&takes) { found.files.push(url) } else { found.passed_over.push(url) }
    }
    for url in unnamed.into_iter().filter(is_wanted) {
        if kind(&url).is_some_and(&takes) { found.unnamed.push(url) } else { found.passed_over.push(url) }
    }
    match (found.files.is_empty(), denied) {
        (false, _) => Ok(found),
        (true, Some(error)) => Err(failed("find")(error)),
        (true, None) => Err(IngestError::NotFound { path: path.into(), passed_over: found.passed_over }),
    }
}

/// The folder above the first part that has a wildcard.
fn root_of(glob: &Path) -> PathBuf {
    let plain = glob.components().take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']));
    let root: PathBuf = plain.collect();
    if root.as_os_str().is_empty() { PathBuf::from(".") } else { root }
}

fn walk(path: &str, root: &Path, takes: impl Fn(Kind) -> bool, wanted: impl Fn(&Path) -> bool) -> Result<Found, IngestError> {
    let mut found = Found::default();
    let shown = |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().to_string_lossy().starts_with('.');
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(root).display().to_string();
            IngestError::Io { what: "list", path, source: error.into() }
        })?;
        // A walk from "." names files "./a.csv"; a glob like "*.csv" does not.
        let named = if path.starts_with('.') { None } else { entry.path().strip_prefix("./").ok() };
        let file = named.unwrap_or(entry.path());
        if entry.file_type().is_file() && wanted(file) {
            let name = remote::location(file).map_err(|source| IngestError::Io { what: "find", path: path.into(), source })?;
            if kind(&name).is_some_and(&takes) { found.files.push(name) } else { found.passed_over.push(name) }
        }
    }
    if found.files.is_empty() {
        return Err(IngestError::NotFound { path: path.into(), passed_over: found.passed_over });
    }
    found.files.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::format::Content;

    #[test]
    fn files_folders_and_globs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for name in ["b.csv", "a.csv.gz", "deep/er/c.jsonl", "deep/_SUCCESS", ".hidden.csv", "README.md"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let names = |files: Vec<String>| -> Vec<String> { files.into_iter().map(|file| file.replace(root, "")).collect() };
        let all = find(root, |_| true).unwrap();
        assert_eq!(names(all.files.clone()), ["/a.csv.gz", "/b.csv", "/deep/er/c.jsonl"]);
        assert_eq!(names(all.passed_over), ["/README.md", "/deep/_SUCCESS"]);
        assert_eq!(names(find(&format!("{root}/*.csv*"), |_| true).unwrap().files), ["/a.csv.gz", "/b.csv"]);
        assert_eq!(names(find(&format!("{root}/**/c.*"), |_| true).unwrap().files), ["/deep/er/c.jsonl"]);
        assert_eq!(names(find(&format!("{root}/b.csv"), |_| true).unwrap().files), ["/b.csv"]);
        assert_eq!(
            names(find(root, |kind| kind.content == Content::Json).unwrap().files),
            ["/deep/er/c.jsonl"],
            "an input of JSON takes no CSV"
        );
        assert_eq!(find("./src/ingest/[p]a*.csv", |_| true).map(|found| found.files).unwrap_or_default(), [""; 0]);
        assert!(matches!(find(&format!("{root}/*.parquet"), |_| true), Err(IngestError::NotFound { .. })));
        assert!(matches!(find(&format!("{root}/none.csv"), |_| true), Err(IngestError::NotFound { .. })));
        for url in ["gs://bucket/x", "http://host/x.csv"] {
            assert!(matches!(find(url, |_| true), Err(IngestError::UnsupportedUrl { .. })), "{url}");
        }
        assert!(matches!(find("s3://", |_| true), Err(IngestError::Io { .. })));
        assert_eq!(names(find(&format!("file://{root}/b.csv"), |_| true).unwrap().files), ["/b.csv"]);
        assert_eq!(names(find(&format!("file://{root}"), |_| true).unwrap().files), names(all.files.clone()), "a folder, as a URL");
        assert!(matches!(find(&format!("{root}/["), |_| true), Err(IngestError::BadGlob { .. })));
    }
}
