//! Archives and layouts with more than one image.

use super::*;
use crate::look;

type Files = Vec<(String, Vec<u8>)>;

/// The layer of an image whose file `name` is its own.
fn layer(name: &str) -> [Layer; 1] {
    [Layer::new().file(name, name)]
}

/// What `docker save web:1 db:2 other:1` writes, whose third is the first by another name.
fn saved() -> Files {
    let (mut files, mut images) = (Files::new(), Vec::new());
    for (tag, name) in [("web:1", "web"), ("db:2", "db"), ("other:1", "web")] {
        let (config_name, layer_name) = (format!("{name}.json"), format!("{name}/layer.tar"));
        images.push(json!({ "Config": config_name, "RepoTags": [tag], "Layers": [layer_name] }));
        let config = crate::testing::config(&layer(name), &json!({ "Cmd": [name] }));
        files.push((config_name, config));
        files.push((layer_name, layer(name)[0].bytes()));
    }
    let images = Value::from(images);
    files.push(("manifest.json".into(), images.to_string().into()));
    files
}

/// The files of an OCI layout of one image, and its descriptor.
fn one(name: &str) -> (Files, Value) {
    let config = json!({ "Cmd": [name] });
    let mut files = oci_files(&layer(name), &config, |bytes| (bytes.into(), ""));
    let index = files.iter().position(|(name, _)| name == "index.json");
    let (_, index) = files.remove(index.unwrap());
    let index: Value = serde_json::from_slice(&index).unwrap();
    (files, index["manifests"][0].clone())
}

/// A layout whose index has descriptors that `describe` makes of those of two images.
fn layout(describe: impl FnOnce(Value, Value, &mut Files) -> Value) -> Files {
    let ((mut files, web), (others, db)) = (one("web"), one("db"));
    files.extend(others);
    let index = json!({ "schemaVersion": 2, "manifests": describe(web, db, &mut files) });
    files.push(("index.json".into(), index.to_string().into()));
    files
}

fn named(mut descriptor: Value, key: &str, name: &str) -> Value {
    descriptor["annotations"] = json!({ key: name });
    descriptor
}

/// The program of the image that is chosen, or why there is none: the same in a file, in a folder of
/// a layout, and by a look at it.
fn program(files: &Files, choice: Option<&str>) -> Result<String, String> {
    let choice = choice.map(|text| text.parse().unwrap());
    let (folder, cache) = cache();
    let path = folder.path().join("image");
    fs::write(&path, archive(files)).unwrap();
    let words = |error: anyhow::Error| {
        let words = format!("{error:#}");
        words.rsplit_once("image: ").unwrap().1.to_owned()
    };
    let outcome = cache.read(&path, choice.as_ref()).map_err(words);
    let looked = look(&path, choice.as_ref()).map_err(words);
    assert_eq!(looked.err().as_ref(), outcome.as_ref().err());
    if files.iter().any(|(name, _)| name == "oci-layout") {
        fs::remove_file(&path).unwrap();
        write(&path, files);
        let of_folder = cache.read(&path, choice.as_ref()).map_err(words);
        let id = |image: Image| image.id;
        assert_eq!(of_folder.map(id), outcome.clone().map(id));
    }
    let image = outcome?;
    let names = names(&cache.catalog(&image).unwrap().0);
    let program = image.config.cmd.unwrap().remove(0);
    assert_eq!(names, [program.as_str()]);
    Ok(program)
}

#[test]
fn of_a_saved_archive_one_is_chosen() {
    let files = saved();
    for (choice, expected) in [
        (":web:1", "web"),
        (":docker.io/library/db:2", "db"),
        (":other:1", "web"),
        ("@1", "db"),
    ] {
        assert_eq!(program(&files, Some(choice)), Ok(expected.into()));
    }
    let all = "(@0 \"web:1\", @1 \"db:2\", @2 \"other:1\")";
    let several =
        format!("it holds 3 images {all}; choose one by :NAME or @NUMBER behind the path");
    assert_eq!(program(&files, None), Err(several));
    let none = format!("it holds no image \"web:2\" {all}");
    assert_eq!(program(&files, Some(":web:2")), Err(none));
}

#[test]
fn one_image_of_several_names_needs_no_choice() {
    let mut files = saved();
    let (_, manifest) = files.last_mut().unwrap();
    let mut images: Value = serde_json::from_slice(manifest).unwrap();
    images.as_array_mut().unwrap().remove(1);
    *manifest = images.to_string().into();
    assert_eq!(program(&files, None), Ok("web".into()));
}

#[test]
fn of_a_layout_one_is_chosen_by_tag_or_name() {
    const TAG: &str = "org.opencontainers.image.ref.name";
    let files = layout(|web, db, _| {
        let mut db = named(db, TAG, "2");
        db["annotations"]["io.containerd.image.name"] = json!("docker.io/library/db:2");
        json!([named(web, TAG, "1"), db])
    });
    for (choice, expected) in [(":1", "web"), (":2", "db"), (":db:2", "db"), ("@0", "web")] {
        assert_eq!(program(&files, Some(choice)), Ok(expected.into()));
    }
    let all = "(@0 \"1\", @1 \"docker.io/library/db:2\")";
    let several =
        format!("it holds 2 images {all}; choose one by :NAME or @NUMBER behind the path");
    assert_eq!(program(&files, None), Err(several));
}

#[test]
fn of_several_platforms_that_of_machines_is_taken() {
    let platform = |mut descriptor: Value, machine: &str, variant: Option<&str>| {
        descriptor["platform"] = json!({ "os": "linux", "architecture": machine });
        if let Some(variant) = variant {
            descriptor["platform"]["variant"] = json!(variant);
        }
        descriptor
    };
    let files = layout(|web, db, files| {
        let platforms = json!([
            platform(web.clone(), "arm64", Some("v8")),
            platform(web, "amd64", Some("v3")),
            platform(db, "amd64", None),
        ]);
        let index = json!({ "schemaVersion": 2, "manifests": platforms }).to_string();
        let digest = Digest::of(index.as_bytes());
        files.push((format!("blobs/sha256/{}", digest.hex()), index.into()));
        json!([{ "digest": digest, "annotations": { "org.opencontainers.image.ref.name": "x" } }])
    });
    assert_eq!(program(&files, None), Ok("db".into()));
    assert_eq!(program(&files, Some(":x")), Ok("db".into()));

    let files =
        layout(|web, db, _| json!([platform(web, "arm64", None), platform(db, "amd64", None)]));
    assert_eq!(program(&files, None), Ok("db".into()));
    let beyond = "it holds no image @2 (@1 \"test\")".to_owned();
    assert_eq!(program(&files, Some("@2")), Err(beyond));
}
