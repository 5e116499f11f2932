//! The checked-in Rust types are those of `protos/kvm_timeline.proto`.

use std::path::Path;

const GENERATED: &str = "src/export/perfetto/proto.rs";
/// Set it to have the test write the file instead of comparing it.
const BLESS: &str = "KVM_TIMELINE_BLESS";

#[test]
fn generated_code_is_fresh() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile([root.join("protos/kvm_timeline.proto")], [root.join("protos")]).expect("valid proto");
    let mut config = prost_build::Config::new();
    let modules = files
        .file
        .into_iter()
        .map(|file| (prost_build::Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let generated = config.generate(modules).expect("valid Rust").into_values().collect::<Vec<_>>();
    let [code] = generated.as_slice() else { panic!("one package expected, not {}", generated.len()) };

    let path = root.join(GENERATED);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, code).expect("writable source tree");
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        *code == checked_in,
        "{GENERATED} is stale: run `{BLESS}=1 cargo test --test proto` and commit what it writes"
    );
}
