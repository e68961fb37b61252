//! `docs/cli.md` and `docs/config.md` say what the binary does. `TIDEMARK_BLESS=1` writes them anew.

use std::fs;

use crate::support::root;

fn compare(name: &str, wanted: &str) {
    let path = root().join("docs").join(name);
    if std::env::var("TIDEMARK_BLESS").is_ok_and(|value| value == "1") {
        fs::create_dir_all(path.parent().expect("docs")).expect("docs can be written");
        fs::write(&path, wanted).expect("docs can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/{name} is not what the binary does; write it anew: TIDEMARK_BLESS=1 cargo test --workspace --test cli"
    );
}

#[test]
fn the_commands_are_documented_as_they_are() {
    let text = tidemark::cli::documentation();
    for command in ["dataset init", "ingest", "batch vacuum", "rejects", "status", "sql", "config"] {
        assert!(text.contains(&format!("\n## tidemark {command}\n")), "{command}");
    }
    assert!(!text.contains("failpoints"));
    compare("cli.md", &text);
}

#[test]
fn the_settings_are_documented_as_they_are() {
    let text = tidemark::config::documentation();
    assert!(text.contains("| `url` | `file:<data_dir>/store` | `TIDEMARK_STORE_URL` | `--store-url` |"), "{text}");
    compare("config.md", &text);
}
