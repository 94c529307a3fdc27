//! Who may call whom: the table in ARCHITECTURE.md is what the imports say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

type Uses = BTreeMap<String, BTreeSet<String>>;

/// What every module may use: the heading of the table says so.
const FOR_ALL: [&str; 5] = ["telemetry", "clock", "ids", "failure", "position"];
/// What wires everything together may use everything.
const WIRING: [&str; 2] = ["app", "main"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Collects the paths of a file, those of tests left out.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

fn is_test(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

impl Paths {
    fn tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree),
            UseTree::Name(name) => self.found.push(with(name.ident.to_string())),
            UseTree::Rename(rename) => self.found.push(with(rename.ident.to_string())),
            UseTree::Glob(_) => self.found.push(before.to_vec()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.found.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// The paths that a file names, those of tests left out.
fn paths(file: &Path) -> Vec<Vec<String>> {
    let mut paths = Paths::default();
    if file.ends_with("tests.rs") {
        return paths.found;
    }
    paths.visit_file(&syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap());
    paths.found
}

/// The paths into this crate, by the module that has them: the first folder or file below `src`.
fn imports() -> BTreeMap<String, Vec<Vec<String>>> {
    let mut imports = BTreeMap::<_, Vec<_>>::new();
    for file in files(&root().join("src")).into_iter().filter(|file| file.extension().is_some_and(|of| of == "rs")) {
        let below = file.strip_prefix(root().join("src")).unwrap();
        let module = Path::new(below.components().next().unwrap().as_os_str()).file_stem().unwrap();
        let ours = paths(&file).into_iter().filter(|path| path.len() > 1 && path[0] == "crate");
        let ours = ours.map(|path| path[1..].to_vec());
        imports.entry(module.to_str().unwrap().to_owned()).or_default().extend(ours);
    }
    imports
}

fn used() -> Uses {
    let modules = imports().into_iter().filter(|(module, _)| !WIRING.contains(&module.as_str()) && module != "lib");
    let uses = modules.map(|(module, paths)| {
        let others = paths.into_iter().map(|path| path[0].clone());
        let others = others.filter(|other| *other != module && !FOR_ALL.contains(&other.as_str())).collect();
        (module, others)
    });
    uses.collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What the table says.
fn documented() -> Uses {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = page.split_once("## Where things live").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut uses = Uses::new();
    for line in section.lines().filter(|line| line.starts_with("| `src/")) {
        let [_, modules, _, others, _] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        for module in words(modules) {
            let module = module.trim_start_matches("src/").trim_end_matches(".rs").to_owned();
            uses.insert(module, words(others).map(str::to_owned).collect());
        }
    }
    uses
}

#[test]
fn the_table_of_who_uses_whom_is_what_the_imports_say() {
    let (used, mut documented) = (used(), documented());
    for module in WIRING {
        documented.remove(module);
    }
    assert_eq!(used, documented, "left: the imports; right: ARCHITECTURE.md, \"Where things live\"");
}

#[test]
fn dependencies_point_one_way() {
    let mut left = used();
    while !left.is_empty() {
        // Those that use nothing that is left stand below all others.
        let lowest: Vec<String> = left
            .iter()
            .filter(|(_, uses)| !uses.iter().any(|other| left.contains_key(other)))
            .map(|(m, _)| m.clone())
            .collect();
        assert!(!lowest.is_empty(), "they use each other: {left:?}");
        left.retain(|module, _| !lowest.contains(module));
    }
}

/// What can be asked of a store: its traits, and the one that has them all. `Backend` says how the store is, and health asks for that.
fn stores() -> BTreeSet<String> {
    let items =
        files(&root().join("src/store")).into_iter().filter(|file| file.extension().is_some_and(|of| of == "rs"));
    let items = items.flat_map(|file| syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap().items);
    let traits = items.filter_map(|item| match item {
        Item::Trait(found) if matches!(found.vis, Visibility::Public(_)) && found.ident != "Backend" => {
            Some(found.ident.to_string())
        }
        _ => None,
    });
    traits.chain(["Store".to_owned()]).collect()
}

/// What calls a store is `service`; what translates for clients only speaks of what is stored.
#[test]
fn only_the_service_calls_a_store() {
    let stores = stores();
    assert!(stores.contains("MemberStore") && stores.contains("PushStore"), "{stores:?}");
    let imports = imports();
    for (module, paths) in
        imports.iter().filter(|(module, _)| !["service", "store", "app", "main"].contains(&module.as_str()))
    {
        let calls: Vec<_> =
            paths.iter().filter(|path| path[0] == "store" && stores.contains(&path[path.len() - 1])).collect();
        assert!(calls.is_empty(), "{module}: {calls:?}");
    }
}

/// What a client sees of it is made by `service::views`; so the two can change apart.
#[test]
fn what_is_stored_is_not_what_goes_over_the_wire() {
    const WIRE: [&str; 10] = [
        "Member",
        "Profile",
        "ContactInfo",
        "MemberPatch",
        "ContactInfoPatch",
        "VisibilityPatch",
        "MemberCard",
        "Message",
        "Entry",
        "Conversation",
    ];
    for file in
        files(&root().join("src/store")).into_iter().filter(|file| file.extension().is_some_and(|of| of == "rs"))
    {
        let wire = |path: &Vec<String>| path[0] == "protocol" && WIRE.contains(&path[path.len() - 1].as_str());
        let spoken: Vec<_> = paths(&file).into_iter().filter(wire).collect();
        assert!(spoken.is_empty(), "{}: {spoken:?}", file.display());
    }
}

/// What follows from a change goes through `service::effects`.
#[test]
fn only_effects_close_connections_and_tell_of_profiles() {
    for path in files(&root().join("src/service")).into_iter().filter(|path| !path.ends_with("effects.rs")) {
        let code: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
        for call in ["hub.close(", "announcements.submit(", "stale.remember(", "watching.set_audience("] {
            let sees = call == "stale.remember(" && path.ends_with("accounts.rs");
            assert!(sees || !code.contains(call), "{}: {call}", path.display());
        }
    }
}

/// Every `module::item` that the page names is there.
#[test]
fn what_the_page_names_is_there() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let modules: Vec<String> = imports().into_keys().collect();
    let named = words(&page).filter(|word| word.contains("::") && !word.contains(char::is_whitespace));
    for named in named.filter(|named| modules.iter().any(|module| named.split("::").next() == Some(module))) {
        assert!(is_there(named), "{named}");
    }
}

/// Whether a path leads to a file, or to a file that has the item in it.
fn is_there(named: &str) -> bool {
    let (mut at, mut rest) = (root().join("src"), named.split("::"));
    let mut file = None;
    for part in rest.by_ref() {
        let (below, beside) = (at.join(part), at.join(format!("{part}.rs")));
        let module = [beside, below.join("mod.rs")].into_iter().find(|file| file.exists());
        if module.is_none() {
            let Some(file) = &file else { return false };
            return fs::read_to_string(file).unwrap().contains(part);
        }
        (file, at) = (module, below);
    }
    true
}
