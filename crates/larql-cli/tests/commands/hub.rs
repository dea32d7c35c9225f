//! Slices, pull, publish and the library, as a user runs them against a hub on the loopback interface.

use std::collections::BTreeSet;
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use larql_hub_testing::{ALICE, Fault, FaultKind, Logged, TestHub};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

/// `larql` with a hub, a cache and a home of its own.
struct User {
    server: TestHub,
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> User {
        User { server: TestHub::start(), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("HF_ENDPOINT", self.server.endpoint()),
            ("HF_TOKEN", ALICE.to_owned()),
            ("HF_HOME", text(&self.path("hf")).to_owned()),
            ("XDG_CACHE_HOME", text(&self.path("cache")).to_owned()),
        ]
    }

    fn larql<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = larql(arguments);
        command.envs(self.variables()).env_remove("HF_HUB_OFFLINE");
        command
    }

    /// A command that runs by itself.
    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Process::new(assert_cmd::cargo_bin!("larql"));
        command
            .args(arguments)
            .envs(self.variables())
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("HF_HUB_CACHE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Kills a command somewhere within the time that it takes, and waits until the hub has seen all of its requests;
    /// returns true if it ran until then.
    fn kill(&self, mut child: Child, seed: u32, whole: Duration) -> bool {
        // The first numbers of neighbouring seeds are neighbours.
        let share = f64::from(larql_testing::noise(8, seed)[7].abs());
        std::thread::sleep(whole.mul_f64(share));
        let ran = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        self.server.wait_until_closed();
        ran
    }

    /// A whole vindex of a tiny model.
    fn vindex(&self) -> PathBuf {
        let path = self.path("tiny.vindex");
        let checkpoint = fixture("llama-checkpoint");
        self.larql(["extract", text(&checkpoint), "-o", text(&path), "--level", "all"]).assert().success();
        path
    }
}

/// Bytes that look random.
fn bytes(length: usize, seed: u32) -> Vec<u8> {
    let noise = larql_testing::noise(length.div_ceil(4), seed);
    noise.iter().flat_map(|value| value.to_le_bytes()).take(length).collect()
}

/// Six files of 3 MB, and small ones.
fn model() -> Vec<(String, Vec<u8>)> {
    let weights =
        (1..=6).map(|part| (format!("model-0000{part}-of-00006.safetensors"), bytes(3_000_000, part)));
    weights
        .chain([("config.json".into(), b"{}".to_vec()), ("tokenizer.json".into(), b"{ }".to_vec())])
        .collect()
}

/// The time that a command takes.
fn time_of(mut child: Child) -> Duration {
    let begun = Instant::now();
    assert!(child.wait().unwrap().success());
    begun.elapsed()
}

#[test]
fn a_pull_that_is_killed_at_50_moments_goes_on_and_moves_nothing_whole_twice() {
    let user = User::new();
    let model = model();
    let files: Vec<(&str, &[u8])> = model.iter().map(|(path, bytes)| (&**path, &bytes[..])).collect();
    user.server.put("alice/model", &files);
    let blobs = user.path("hf/hub/models--alice--model/blobs");
    let whole = || -> BTreeSet<String> {
        let entries = std::fs::read_dir(&blobs).into_iter().flatten().map(Result::unwrap);
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| !name.contains("incomplete")).collect()
    };
    let time = time_of(user.start(&["pull", "alice/model"]));
    std::fs::remove_dir_all(user.path("hf")).unwrap();
    let (mut kills, mut completed, mut seed) = (0, 0, 0);
    while kills < 50 {
        seed += 1;
        assert!(seed < 500, "{kills} kills in {seed} attempts");
        let before = whole();
        user.server.clear_log();
        kills += usize::from(user.kill(user.start(&["pull", "alice/model"]), seed, time));
        let again = |entry: &Logged| before.iter().any(|blob| entry.path.ends_with(blob.as_str()));
        assert!(!user.server.log().iter().any(again), "a whole file was asked for again");
        // A file under its name is whole, whenever that is looked at.
        for (path, content) in &model {
            let at = |entry: std::fs::DirEntry| entry.path().join(path);
            let snapshots = std::fs::read_dir(blobs.with_file_name("snapshots")).into_iter().flatten();
            for snapshot in snapshots.map(Result::unwrap).map(at).filter(|path| path.exists()) {
                assert!(std::fs::read(&snapshot).unwrap() == *content, "{}", snapshot.display());
            }
        }
        if whole().len() == model.len() {
            completed += 1;
            user.larql(["pull", "alice/model"]).assert().success();
            std::fs::remove_dir_all(user.path("hf")).unwrap();
        }
    }
    let pulled = stdout(&user.larql(["pull", "alice/model"]).assert().success());
    for (path, content) in &model {
        assert!(std::fs::read(Path::new(pulled.trim()).join(path)).unwrap() == *content, "{path}");
    }
    println!("{kills} kills in {seed} attempts; {completed} downloads were completed meanwhile");
}

#[test]
fn a_publication_that_is_killed_at_50_moments_goes_on_and_moves_nothing_whole_twice() {
    let user = User::new();
    let source = user.path("source");
    std::fs::create_dir(&source).unwrap();
    let (mut kills, mut completed, mut seed, mut round) = (0, 0, 0, 0);
    // Large enough for parts, and several that go at the same time. Each round has other bytes at their beginnings.
    let mut contents: Vec<(String, Vec<u8>)> = [12, 2, 2, 2]
        .into_iter()
        .enumerate()
        .map(|(part, size)| (format!("{part}.bin"), bytes(size * 1_000_000, 7)))
        .collect();
    let mut write = |round: u32| {
        for (part, (path, content)) in (0..).zip(&mut contents) {
            content[..64].copy_from_slice(&bytes(64, 10 * round + part));
            std::fs::write(source.join(path), content).unwrap();
        }
        contents.clone()
    };
    let arguments = ["hf", "publish", text(&source), "--repo", "alice/model", "--private"];
    write(1000);
    let time = time_of(user.start(&arguments));
    let mut contents = write(round);
    let mut stored = BTreeSet::new();
    while kills < 50 {
        seed += 1;
        assert!(seed < 500, "{kills} kills in {seed} attempts");
        user.server.clear_log();
        kills += usize::from(user.kill(user.start(&arguments), seed + 1000, time));
        let log = user.server.log();
        let object = |entry: &Logged| entry.path.split('/').nth(2).unwrap_or_default().to_owned();
        let puts = log.iter().filter(|entry| entry.server == "storage" && entry.method == "PUT");
        let again = puts.clone().map(object).find(|object| stored.contains(object));
        assert_eq!(again, None, "a whole file was sent again");
        let is_whole = |entry: &&Logged| {
            entry.status == 200 && entry.server == "storage" && !entry.path.starts_with("/parts/")
        };
        stored.extend(log.iter().filter(is_whole).map(object));
        // What is committed is right, whatever the moment.
        let committed = user.server.files("alice/model");
        let matching = contents.iter().filter(|file| committed.contains(file)).count();
        if matching == contents.len() {
            completed += 1;
            round += 1;
            contents = write(round);
        }
    }
    user.larql(arguments).assert().success();
    let committed = user.server.files("alice/model");
    assert!(contents.iter().all(|file| committed.contains(file)));
    println!("{kills} kills in {seed} attempts; {completed} publications were completed meanwhile");
}

#[test]
fn a_vindex_goes_up_and_comes_down_by_name() {
    let user = User::new();
    let vindex = user.vindex();
    let dry = user.larql(["publish", text(&vindex), "--repo", "alice/tiny", "--dry-run"]).assert().success();
    assert!(stdout(&dry).contains("alice/tiny-browse (browse): "), "{}", stdout(&dry));
    assert!(stdout(&dry).contains("collection: LARQL Vindex Library"));
    assert_eq!(user.server.log(), []);

    let up = user.larql(["publish", text(&vindex), "--repo", "alice/tiny"]).assert().success();
    assert_eq!(stdout(&up).lines().count(), 9, "{}", stdout(&up));
    assert!(stderr(&up).contains("alice/tiny-client: "), "{}", stderr(&up));
    let again = user.larql(["publish", text(&vindex), "--repo", "alice/tiny"]).assert().success();
    assert_eq!(stderr(&again).matches("unchanged, public").count(), 6, "{}", stderr(&again));

    let down = user.larql(["pull", "alice/tiny"]).assert().success();
    assert!(stderr(&down).contains("--preset client   hf://alice/tiny-client"), "{}", stderr(&down));
    user.larql(["verify", "alice/tiny"]).assert().success();
    user.larql(["lql", "--use", "hf://alice/tiny", "STATS"]).assert().success();
    user.larql(["pull", "alice/tiny", "--preset", "browse", "-o", text(&user.path("browse"))])
        .assert()
        .success();
    user.larql(["verify", text(&user.path("browse"))]).assert().success();
    user.server.clear_log();
    user.larql(["pull", "alice/tiny", "-o", text(&user.path("browse"))]).assert().success();
    assert_eq!(user.server.log(), [], "what is there needs no hub");

    let listed = stdout(&user.larql(["list"]).assert().success());
    assert!(listed.contains("alice/tiny ") && listed.contains("hf://alice/tiny"), "{listed}");
    user.larql(["rm", "alice/tiny"]).assert().code(1);
    user.larql(["rm", "alice/tiny", "--yes"]).assert().success();
    let listed = stdout(&user.larql(["list"]).assert().success());
    assert!(!listed.contains("alice/tiny"), "{listed}");
    // No token in anything that was printed, or sent elsewhere.
    for output in [&dry, &up, &again, &down] {
        assert!(!format!("{}{}", stdout(output), stderr(output)).contains(ALICE));
    }
}

#[test]
fn a_model_is_shown_by_its_headers() {
    let user = User::new();
    let checkpoint = fixture("llama-checkpoint");
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(&checkpoint).unwrap().map(Result::unwrap) {
        files.push((entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (&**path, &bytes[..])).collect();
    user.server.put("alice/tiny", &files);
    let here = stdout(&user.larql(["show", text(&checkpoint)]).assert().success());
    let there = stdout(&user.larql(["show", "hf://alice/tiny"]).assert().success());
    let facts = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(facts(&there), facts(&here));
    let sent: u64 =
        user.server.log().iter().filter(|entry| entry.server == "storage").map(|entry| entry.sent).sum();
    let size: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(sent < size / 10, "{sent} of {size} bytes");
    assert!(!user.path("hf/hub/models--alice--tiny").exists());

    // The provenance of what is extracted is the repository at its commit.
    user.larql(["model", "pull", "alice/tiny"]).assert().success();
    user.larql(["extract", "alice/tiny", "-o", text(&user.path("x.vindex"))]).assert().success();
    let manifest = std::fs::read_to_string(user.path("x.vindex/index.json")).unwrap();
    assert!(manifest.contains("\"huggingface_repo\": \"alice/tiny\""), "{manifest}");
    // And the program that did it.
    let program = digest(&std::fs::read(assert_cmd::cargo_bin!("larql")).unwrap());
    assert!(manifest.contains(&format!("\"extractor_sha\": \"{program}\"")), "{manifest}");
}

/// SHA-256 as people write it.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a checkpoint in f16 on the hub, a file for each layer and one for the rest, of whose tensors nothing is stored.
/// Returns its size in bytes.
fn put_without_weights(server: &TestHub, repo: &str, layers: u64, hidden: u64) -> u64 {
    let (inner, keys, words) = (hidden * 7 / 2, hidden / 8, 32_000);
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": hidden / 128,
        "num_key_value_heads": keys / 128, "vocab_size": words, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "tie_word_embeddings": false, "torch_dtype": "float16",
    });
    let tokenizer = vec![b' '; 9_000_000];
    server.put(repo, &[("config.json", config.to_string().as_bytes()), ("tokenizer.json", &tokenizer)]);
    let mut files = vec![vec![
        ("model.embed_tokens.weight".to_owned(), vec![words, hidden]),
        ("lm_head.weight".to_owned(), vec![words, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ]];
    files.extend((0..layers).map(|layer| {
        let shapes = [
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ];
        shapes
            .into_iter()
            .map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape))
            .collect()
    }));
    let (mut weight_map, mut total) = (serde_json::Map::new(), 0);
    let count = files.len();
    for (number, tensors) in (1..).zip(files) {
        let path = format!("model-{number:05}-of-{count:05}.safetensors");
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (name, shape) in tensors {
            let begin = end;
            end += 2 * shape.iter().product::<u64>();
            let tensor = json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
            header.insert(name.clone(), tensor);
            weight_map.insert(name, json!(path));
        }
        let header = serde_json::Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        let length = bytes.len() as u64 + end;
        server.put_sparse(repo, &path, &bytes, length);
        total += length;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map}).to_string();
    server.put(repo, &[("model.safetensors.index.json", index.as_bytes())]);
    total
}

#[test]
fn a_large_model_is_shown_without_its_weights() {
    let user = User::new();
    // A model of 1 GB in 9 files. With 22 layers of width 8192 it is one of 40 GB.
    let bytes = put_without_weights(&user.server, "alice/large", 8, 2048);
    assert!(bytes > 1_000_000_000);
    let shown = user.larql(["show", "hf://alice/large"]).assert().success();
    let (facts, said) = (stdout(&shown), stderr(&shown));
    assert!(facts.contains("8 layers, width 2048"), "{facts}");
    // All that came, listings included.
    let sent: u64 = user.server.log().iter().map(|entry| entry.sent).sum();
    println!("{sent} bytes moved of {bytes}: {said}");
    assert!(sent < 200_000, "{sent}");
}

#[test]
fn a_pinned_file_that_is_killed_goes_on() {
    let user = User::new();
    let content = bytes(20_000_000, 40);
    user.server.put("alice/files", &[("model.bin", &content)]);
    let address =
        format!("{}/alice/files/resolve/main/model.bin@sha256:{}", user.server.endpoint(), digest(&content));
    // That it is no model is found out when it is here.
    let arguments = ["show", &*address];
    let folder = user.path("cache/larql/models/.web").join(digest(&content));
    let come = || std::fs::metadata(folder.join("incomplete")).map_or(0, |file| file.len());
    let begun = Instant::now();
    for part in 1..=10 {
        user.server.fault(Fault::of_storage("GET", FaultKind::Stall(1_500_000)));
        let mut child = user.start(&arguments);
        while come() < part * 1_500_000 {
            assert!(begun.elapsed() < Duration::from_secs(300), "{} bytes in part {part}", come());
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    user.larql(arguments).assert().code(1);
    assert!(std::fs::read(folder.join("model.bin")).unwrap() == content);
    // Not a byte came twice.
    let log = user.server.log();
    let sent: u64 = log.iter().filter(|entry| entry.server == "storage").map(|entry| entry.sent).sum();
    assert_eq!(sent, 20_000_000);
}

#[test]
fn a_vindexfile_takes_what_it_names_from_the_hub() {
    let user = User::new();
    let vindex = user.vindex();
    user.larql(["publish", text(&vindex), "--repo", "alice/tiny", "--slices", "none"]).assert().success();
    user.server.put("alice/edits", &[("labels.json", b"{\"0:1\": \"capital\"}")]);
    let file = user.path("Vindexfile");
    std::fs::write(&file, "FROM hf://alice/tiny\nLABELS hf://alice/edits/labels.json\n").unwrap();
    let built = user.path("built.vindex");
    user.larql(["build", text(user.folder.path()), "-o", text(&built)]).assert().success();
    user.larql(["verify", text(&built)]).assert().success();
}

#[test]
fn slices_are_cut_shown_and_diagnosed() {
    let user = User::new();
    let (vindex, slice) = (user.vindex(), user.path("client.vindex"));
    let cut = |more: &[&str]| {
        let arguments = ["slice", text(&vindex), "-o", text(&slice), "--preset", "client"];
        user.larql(arguments.iter().chain(more).copied()).assert()
    };
    let dry = cut(&["--dry-run"]).success();
    assert!(stdout(&dry).contains("index.json") && !slice.exists());
    cut(&[]).success();
    cut(&[]).code(1);
    cut(&["--force"]).success();
    let shown = stdout(&user.larql(["show", text(&slice)]).assert().success());
    assert!(shown.contains("slice of      manifest, embed, norms, attn"), "{shown}");
    let diagnosed = stdout(&user.larql(["diag", text(&slice)]).assert().success());
    assert!(
        diagnosed.contains("lacks  gate rows") && diagnosed.contains("can    attention of a client"),
        "{diagnosed}"
    );
    let refused = user.larql(["run", text(&slice), "x"]).assert().code(1);
    assert!(stderr(&refused).contains("is a slice without gate rows"), "{}", stderr(&refused));
    user.larql(["slice", text(&vindex), "-o", text(&slice), "--preset", "everything"]).assert().code(2);
    let dense = user
        .larql(["slice", text(&vindex), "-o", text(&user.path("x")), "--preset", "router"])
        .assert()
        .code(1);
    assert!(stderr(&dense).contains("is not a mixture of experts"), "{}", stderr(&dense));
}

#[test]
fn a_vindex_is_compared_with_its_source_and_a_block_with_its_original() {
    let user = User::new();
    let (vindex, checkpoint) = (user.vindex(), fixture("llama-checkpoint"));
    let equal = user.larql(["parity", text(&vindex), text(&checkpoint)]).assert().success();
    assert!(
        stdout(&equal).contains("the same most probable token at 8 of 8 positions"),
        "{}",
        stdout(&equal)
    );
    let other = larql_testing::repository("conformance/llama_512");
    let blocks = user.path("q4k.vindex");
    user.larql(["extract", text(&other), "-o", text(&blocks), "--quant", "q4k"]).assert().success();
    user.larql(["parity", text(&blocks), text(&other)]).assert().success();
    let shown = stdout(&user.larql(["show", text(&blocks)]).assert().success());
    assert!(shown.contains("bits/weight") && shown.contains("Q4_K"), "{shown}");
    let tensor = "layers.0.mlp.up_proj.weight";
    let block =
        user.larql(["diag", text(&blocks), "--block", tensor, "--against", text(&other)]).assert().success();
    assert!(
        stdout(&block).contains("256 values") && stdout(&block).contains("root mean square"),
        "{}",
        stdout(&block)
    );
    user.larql(["diag", text(&blocks), "--block", "no.such"]).assert().code(1);
}

#[test]
fn links_have_names_everywhere() {
    let user = User::new();
    let vindex = user.vindex();
    user.larql(["link", text(&vindex), "--as", "short"]).assert().success();
    user.larql(["verify", "short"]).assert().success();
    let listed = stdout(&user.larql(["list"]).assert().success());
    assert!(listed.contains("short.vindex") && listed.contains("tiny.vindex"), "{listed}");
    user.larql(["link", text(&vindex), "--as", "short"]).assert().code(1);
    user.larql(["rm", "short", "-y"]).assert().success();
    assert!(vindex.exists());
    user.larql(["rm", text(&vindex), "-y"]).assert().code(1);
    assert!(vindex.exists());
}
