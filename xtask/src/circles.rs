//! Circles of files: a file must not import, through others, what imports it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::Failure;

/// Crates whose files must form no circle. A folder counts as one file.
const CRATES: [&str; 2] = ["larql-inference", "larql-edit"];

/// Names the circles of all crates that must have none.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    for name in CRATES {
        let graph = imports(&root.join("crates").join(name).join("src"))?;
        problems
            .extend(circle(&graph).map(|files| format!("{name}: a circle of files: {}", files.join(" → "))));
    }
    Ok(problems)
}

/// For each module of a crate the modules that it imports from.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn imports(source: &Path) -> Result<Graph, Failure> {
    let read = |path: &Path| fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let library = read(&source.join("lib.rs"))?;
    let modules: BTreeSet<&str> = library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    // What the crate exports, and the module that it comes from.
    let mut exports: BTreeMap<String, String> = BTreeMap::new();
    for statement in statements(&library) {
        if let Some((module, names)) =
            statement.strip_prefix("pub use ").and_then(|use_| use_.split_once("::"))
        {
            exports.extend(names_of(names).map(|name| (name, module.to_owned())));
        }
    }
    let mut graph = Graph::new();
    for module in &modules {
        let mut text = String::new();
        let file = source.join(format!("{module}.rs"));
        if file.exists() {
            text = product_code(&read(&file)?);
        } else {
            let folder = source.join(module);
            let files = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            for file in files.filter_map(Result::ok) {
                text += &product_code(&read(&file.path())?);
            }
        }
        let mut imported = BTreeSet::new();
        for (_, path) in text.match_indices("crate::").map(|(at, found)| (at, &text[at + found.len()..])) {
            let end = path.find([';', '(', ')', '<', '>', ' ']).unwrap_or(path.len());
            let names: Vec<String> = match path.strip_prefix('{') {
                Some(list) => names_of(&list[..list.find('}').unwrap_or(list.len())]).collect(),
                None => {
                    vec![path[..end].split("::").next().unwrap_or_default().trim_end_matches(',').to_owned()]
                }
            };
            for name in names {
                let from = modules.get(name.as_str()).map(|module| (*module).to_owned());
                imported.extend(from.or_else(|| exports.get(&name).cloned()));
            }
        }
        imported.remove(*module);
        graph.insert((*module).to_owned(), imported);
    }
    Ok(graph)
}

/// A file without comments and tests.
fn product_code(text: &str) -> String {
    let code = &text[..text.find("#[cfg(test)]").unwrap_or(text.len())];
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The statements of a file that has no bodies.
fn statements(text: &str) -> Vec<String> {
    let code = product_code(text).replace('\n', " ");
    code.split(';').map(|statement| statement.trim().to_owned()).collect()
}

/// The names in `{A, b::C, D as E}` or `A`.
fn names_of(list: &str) -> impl Iterator<Item = String> + '_ {
    let names = list.trim_matches(['{', '}', ' ']).split(',');
    let name = |name: &str| {
        let name = name.trim();
        name.rsplit(" as ").next().unwrap_or(name).split("::").next().unwrap_or(name).to_owned()
    };
    names.map(name).filter(|name| !name.is_empty())
}

/// The shortest circle, its first module once more at its end.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    let from = |start: &String| {
        let mut paths = vec![vec![start.clone()]];
        let mut met = BTreeSet::new();
        while let Some(path) = (!paths.is_empty()).then(|| paths.remove(0)) {
            for next in graph.get(path.last()?).into_iter().flatten() {
                let longer = [&path[..], std::slice::from_ref(next)].concat();
                if next == start {
                    return Some(longer);
                }
                if met.insert(next.clone()) {
                    paths.push(longer);
                }
            }
        }
        None
    };
    graph.keys().filter_map(from).min_by_key(Vec::len)
}
