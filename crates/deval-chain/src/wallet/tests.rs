use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::testing::{self, fixture};
use crate::{ChainError, Exposed, KeyPair, Passwords, Wallet, verify};

const PASSWORD: &str = "correct horse";

fn no_env(_: &str) -> Option<String> {
    None
}

/// As btcli saves a password: XORed with the variable's name, in base64.
fn saved(variable: &str, password: &str) -> String {
    STANDARD.encode(password.bytes().zip(variable.bytes().cycle()).map(|(p, v)| p ^ v).collect::<Vec<_>>())
}

/// `testcold` of the fixtures with its hotkey file replaced.
fn with_hotkey(content: impl AsRef<[u8]>) -> TempDir {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("w");
    fs::create_dir_all(dir.join("hotkeys")).unwrap();
    fs::copy(fixture("wallet/wallets/testcold/coldkeypub.txt"), dir.join("coldkeypub.txt")).unwrap();
    fs::write(dir.join("hotkeys/h"), content).unwrap();
    root
}

fn open(root: &TempDir) -> Result<Wallet, ChainError> {
    Wallet::open(root.path(), "w", "h", no_env)
}

fn hotkey_file() -> Value {
    testing::json("wallet/wallets/testcold/hotkeys/testhot")
}

#[test]
fn opens_what_bittensor_wrote() {
    let wallet = Wallet::open(&fixture("wallet/wallets"), "testcold", "testhot", no_env).unwrap();
    assert_eq!(wallet.coldkey_ss58(), "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV");
    assert_eq!(wallet.hotkey_ss58(), "5EPCUjPxiHAcNooYipQFWr9NmmXJKpNG5RhcntXwbtUySrgH");
    assert_eq!(wallet.coldkey(no_env).unwrap().ss58(), wallet.coldkey_ss58());
    assert!(!format!("{wallet:?}").contains("abandon"));
}

#[test]
fn takes_phrase_before_seed_before_expanded_secret() {
    let mut file = hotkey_file();
    let address = file["ss58Address"].as_str().unwrap().to_owned();
    for dropped in ["accountId", "secretPhrase", "secretSeed"] {
        file[dropped] = Value::Null;
        assert_eq!(open(&with_hotkey(file.to_string())).unwrap().hotkey_ss58(), address, "without {dropped}");
    }
    let key = open(&with_hotkey(file.to_string())).unwrap();
    assert!(verify(&key.hotkey().sign(b"x"), b"x", &key.hotkey().public()));
    file["secretSeed"] = json!(format!("0x{}", "ab".repeat(32)));
    let error = open(&with_hotkey(file.to_string())).unwrap_err();
    assert!(error.to_string().contains(&format!("it says {address}")), "{error}");
}

#[test]
fn unusable_keyfiles_are_named_without_their_content() {
    let mut public_only = hotkey_file();
    for key in ["secretPhrase", "secretSeed", "privateKey"] {
        public_only[key] = Value::Null;
    }
    let mut bad_phrase = hotkey_file();
    bad_phrase["secretPhrase"] = json!("abandon abandon zebra-secret");
    let cases = [
        (public_only.to_string(), "holds no secret"),
        (bad_phrase.to_string(), "not a BIP-39 phrase"),
        (r#"{"secretSeed": "0x5ecre7"}"#.to_owned(), "secretSeed is not 32 bytes"),
        (r#"{"secretPhrase": 77001}"#.to_owned(), "not the JSON object"),
        ("5EPCUjPxiHAcNooYipQFWr9NmmXJKpNG5RhcntXwbtUySrgH".to_owned(), "not the JSON object"),
        (String::new(), "it is empty"),
    ];
    for (content, reason) in cases {
        let error = open(&with_hotkey(&content)).unwrap_err();
        assert!(matches!(error, ChainError::KeyfileMalformed { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(reason) && text.contains("hotkeys/h"), "{text}");
        assert!(!text.contains("zebra") && !text.contains("5ecre7") && !text.contains("77001"), "{text}");
    }
}

#[test]
fn missing_files_name_path_and_remedy() {
    let root = with_hotkey("");
    let missing = |name, hotkey| Wallet::open(root.path(), name, hotkey, no_env).unwrap_err().to_string();
    let hotkey = missing("w", "other");
    assert!(hotkey.contains("w/hotkeys/other") && hotkey.contains("btcli wallet new-hotkey"), "{hotkey}");
    let wallet = missing("nobody", "h");
    assert!(wallet.contains("nobody: no such wallet") && wallet.contains("btcli wallet create"), "{wallet}");
    fs::remove_file(root.path().join("w/coldkeypub.txt")).unwrap();
    let address = missing("w", "h");
    assert!(address.contains("w/coldkeypub.txt") && address.contains("regen-coldkeypub"), "{address}");
}

#[test]
fn a_nacl_keyfile_opens_with_its_password_only() {
    let sealed = fs::read(fixture("wallet/keyfile_nacl_fixed_nonce.bin")).unwrap();
    let root = with_hotkey(&sealed);
    let open = |env: &dyn Fn(&str) -> Option<String>| Wallet::open(root.path(), "w", "h", env);

    let Err(ChainError::PasswordMissing { variable, .. }) = open(&no_env) else { panic!("opened without password") };
    let path = root.path().join("w/hotkeys/h").to_string_lossy().replace(['/', '.'], "_").to_uppercase();
    assert_eq!(variable, format!("BT_PW_{path}"));

    let with = |password: &'static str| open(&move |name: &str| Some(saved(name, password)));
    assert_eq!(with(PASSWORD).unwrap().hotkey_ss58(), "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV");
    let wrong = with("battery staple").unwrap_err();
    assert!(matches!(wrong, ChainError::PasswordWrong { .. }));
    assert!(!wrong.to_string().contains("staple"));
    // bittensor 9.0.1's own btwallet stores it without base64.
    let bare = |name: &str| PASSWORD.bytes().zip(name.bytes().cycle()).map(|(a, b)| char::from(a ^ b)).collect();
    assert!(open(&|name: &str| Some(bare(name))).is_ok());
    let garbled = open(&|_: &str| Some("***".to_owned())).unwrap_err();
    assert!(matches!(garbled, ChainError::PasswordUnreadable { .. }));
}

#[test]
fn every_older_encryption_opens_with_its_password_only() {
    let vectors = testing::json("wallet/vectors.json");
    let keyfiles = &vectors["keyfiles"];
    let bytes = |name: &str| testing::bytes(&keyfiles[name]);
    let text = |name: &str| keyfiles[name].as_str().unwrap().as_bytes().to_vec();
    for sealed in [
        bytes("nacl_random_nonce_hex"),
        fs::read(fixture("wallet/wallets/enccold/coldkey")).unwrap(),
        text("ansible_text"),
        [text("ansible_text"), b"\n".to_vec()].concat(),
        fs::read(fixture("wallet/keyfile_ansible.txt")).unwrap(),
        fs::read(fixture("wallet/keyfile_fernet.txt")).unwrap(),
    ] {
        let root = with_hotkey(&sealed);
        let opened = Wallet::open(root.path(), "w", "h", |name| Some(saved(name, PASSWORD))).unwrap();
        assert_eq!(opened.hotkey_ss58(), "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV");
    }
    assert_eq!(fs::read(fixture("wallet/keyfile_fernet.txt")).unwrap(), text("fernet_text"));
    let mut sealed = text("ansible_text");
    let root = with_hotkey(&sealed);
    let error = Wallet::open(root.path(), "w", "h", |name| Some(saved(name, "battery staple"))).unwrap_err();
    assert!(matches!(error, ChainError::PasswordWrong { .. }), "{error}");
    assert!(matches!(open(&root), Err(ChainError::PasswordMissing { .. })));
    let middle = sealed.len() / 2;
    sealed[middle] = if sealed[middle] == b'4' { b'5' } else { b'4' };
    let damaged = with_hotkey(&sealed);
    let error = Wallet::open(damaged.path(), "w", "h", |name| Some(saved(name, PASSWORD))).unwrap_err();
    assert!(matches!(error, ChainError::PasswordWrong { .. }), "{error}");
}

#[test]
fn passwords_give_the_keys_that_bittensor_derives() {
    let keyfiles = &testing::json("wallet/vectors.json")["keyfiles"];
    let nacl = super::sealed::nacl_key(PASSWORD.as_bytes()).unwrap();
    assert_eq!(nacl.to_vec(), testing::bytes(&keyfiles["argon2i"]["derived_key_hex"]));
    let fernet = super::sealed::fernet_key(PASSWORD.as_bytes());
    let encoded = base64::engine::general_purpose::URL_SAFE.encode(*fernet);
    assert_eq!(encoded, keyfiles["fernet_key_b64"].as_str().unwrap());
    let token = keyfiles["fernet_text"].as_str().unwrap();
    let open = |token: &str, key| super::sealed::open_fernet(token, key);
    assert_eq!(open(token, &fernet).unwrap().to_vec(), keyfiles["plaintext"].as_str().unwrap().as_bytes());
    assert!(open(token, &[7; 32]).is_none(), "another password's key");
    assert!(open(&token.replacen('B', "C", 1), &fernet).is_none(), "damaged");
    assert!(["", "gAAAAA", "gAAAAA==", "ü"].iter().all(|short| open(short, &fernet).is_none()));
}

#[test]
fn what_ends_early_or_is_no_encryption_is_no_panic() {
    for sealed in [
        &b"$NACL"[..],
        b"$NACLshort",
        b"$ANSIBLE_VAULT",
        b"$ANSIBLE_VAULT;1.1;AES256",
        b"$ANSIBLE_VAULT;1.1;AES256\n",
        b"$ANSIBLE_VAULT;1.1;AES256\nzz",
        b"$ANSIBLE_VAULT;1.2;AES256;me\n00",
        b"$ANSIBLE_VAULT;1.1;AES256\n300a300a30\n",
    ] {
        let root = with_hotkey(sealed);
        let error = Wallet::open(root.path(), "w", "h", |name| Some(saved(name, PASSWORD))).unwrap_err();
        assert!(matches!(error, ChainError::PasswordWrong { .. }), "{error}");
    }
}

/// Somebody at a terminal, who types this; how often they were asked, and what is kept of a password that opened its keyfile.
#[derive(Default)]
struct Typed(&'static str, std::cell::Cell<u32>, std::cell::RefCell<Option<(String, String)>>);

impl Passwords for Typed {
    fn stored(&self, _: &str) -> Option<Zeroizing<String>> {
        None
    }

    fn ask(&self, path: &Path) -> Option<Zeroizing<String>> {
        assert!(path.ends_with("w/hotkeys/h"));
        self.1.set(self.1.get() + 1);
        Some(Zeroizing::new(self.0.to_owned()))
    }

    fn opened(&self, variable: &str, stored: Zeroizing<String>) {
        *self.2.borrow_mut() = Some((variable.to_owned(), stored.to_string()));
    }
}

#[test]
fn a_password_is_asked_for_once_and_only_where_the_environment_has_none() {
    let root = with_hotkey(fs::read(fixture("wallet/keyfile_ansible.txt")).unwrap());
    let right = Typed(PASSWORD, 0.into(), None.into());
    assert!(Wallet::open_with(root.path(), "w", "h", &right).is_ok());
    let wrong = Typed("battery staple", 0.into(), None.into());
    let error = Wallet::open_with(root.path(), "w", "h", &wrong).unwrap_err();
    assert!(error.to_string().contains("this password does not open") && !error.to_string().contains("staple"));
    assert_eq!((right.1.get(), wrong.1.get()), (1, 1));
    let plain = with_hotkey(hotkey_file().to_string());
    let nobody = Typed::default();
    assert!(Wallet::open_with(plain.path(), "w", "h", &nobody).is_ok());
    assert_eq!(nobody.1.get(), 0);

    // What is kept opens it again, and nothing is kept of what opened nothing.
    let (variable, stored) = right.2.into_inner().unwrap();
    assert_eq!(stored, saved(&variable, PASSWORD));
    let open = |name: &str| (name == variable).then(|| stored.clone());
    assert!(Wallet::open(root.path(), "w", "h", open).is_ok());
    assert_eq!((wrong.2.into_inner(), nobody.2.into_inner()), (None, None));
}

#[test]
fn addresses_need_no_password() {
    let root = with_hotkey(fs::read(fixture("wallet/keyfile_ansible.txt")).unwrap());
    let hotkeys = root.path().join("w/hotkeys");
    fs::write(hotkeys.join("plain"), hotkey_file().to_string()).unwrap();
    fs::write(hotkeys.join("sealed"), fs::read(fixture("wallet/keyfile_fernet.txt")).unwrap()).unwrap();
    fs::copy(root.path().join("w/coldkeypub.txt"), hotkeys.join("sealedpub.txt")).unwrap();
    let mut seed_only = hotkey_file();
    ["ss58Address", "secretPhrase", "accountId", "publicKey"].iter().for_each(|key| seed_only[key] = Value::Null);
    fs::write(hotkeys.join("seed"), seed_only.to_string()).unwrap();
    fs::write(hotkeys.join(".plain.swp"), "an editor's").unwrap();
    let shown = Wallet::addresses(root.path(), "w").unwrap();
    let cold = "5DfhGyQdFobKM8NsWvEeAKk5EQQgYe9AydgJ7rMB6E1EqRzV";
    let hot = "5EPCUjPxiHAcNooYipQFWr9NmmXJKpNG5RhcntXwbtUySrgH";
    assert_eq!(shown.coldkey, cold);
    let address = |name: &str, address: Option<&str>| (name.to_owned(), address.map(str::to_owned));
    let found = shown.hotkeys.iter().map(|(name, of)| (name.clone(), of.as_ref().unwrap().clone()));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [("h", None), ("plain", Some(hot)), ("sealed", Some(cold)), ("seed", Some(hot))]
            .map(|(name, of)| address(name, of))
    );
    assert!(matches!(Wallet::addresses(root.path(), "nobody"), Err(ChainError::KeyfileMissing { .. })));

    // One that cannot be used does not hide the others.
    let mut other = hotkey_file();
    other["ss58Address"] = json!(cold);
    fs::write(hotkeys.join("other"), other.to_string()).unwrap();
    let hotkeys = Wallet::addresses(root.path(), "w").unwrap().hotkeys;
    let broken: Vec<_> = hotkeys.iter().filter_map(|(name, of)| Some((name.as_str(), of.as_ref().err()?))).collect();
    assert!(matches!(broken[..], [("other", ChainError::KeyfileMalformed { .. })]), "{broken:?}");
    assert_eq!(hotkeys.len(), 5);
}

#[test]
fn the_password_is_named_for_the_wallets_own_path() {
    let root = with_hotkey(fs::read(fixture("wallet/keyfile_fernet.txt")).unwrap());
    let beside = root.path().join("work/../w/..");
    fs::create_dir(root.path().join("work")).unwrap();
    let Err(ChainError::PasswordMissing { variable, .. }) = Wallet::open(&beside, "w", "h", no_env) else { panic!() };
    assert!(!variable.contains("WORK"), "{variable}");

    // A shell takes no `-` in a name.
    let dir = root.path().join("a-b");
    fs::create_dir(&dir).unwrap();
    fs::rename(root.path().join("w"), dir.join("w")).unwrap();
    let Err(ChainError::PasswordMissing { variable, .. }) = Wallet::open(&dir, "w", "h", no_env) else { panic!() };
    let stored =
        |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| saved(&variable, PASSWORD));
    assert!(variable.contains('-') && Wallet::open(&dir, "w", "h", stored).is_ok());
}

#[cfg(unix)]
#[test]
fn keys_that_others_may_read_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = TempDir::new().unwrap();
    Wallet::create_throwaway(root.path(), "demo", "miner").unwrap();
    assert_eq!(Wallet::exposed(root.path(), "demo").unwrap(), []);
    let [hotkey, coldkey] = ["hotkeys/miner", "coldkey"].map(|file| root.path().join("demo").join(file));
    for (path, mode) in [(&hotkey, 0o640), (&coldkey, 0o604)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = Wallet::exposed(root.path(), "demo").unwrap();
    assert_eq!(found, [Exposed { path: hotkey, mode: 0o640 }, Exposed { path: coldkey, mode: 0o604 }]);
}

#[cfg(unix)]
#[test]
fn a_keyfile_that_is_none_never_hangs() {
    let root = with_hotkey("");
    let path = root.path().join("w/hotkeys/h");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(open(&root).unwrap_err().to_string().contains("it is not a file"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(open(&root).unwrap_err().to_string().contains("it is not a file"));
    fs::remove_dir(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    assert!(open(&root).unwrap_err().to_string().contains("it is too large"));
}

#[test]
fn a_throwaway_wallet_opens_again_is_private_and_is_never_overwritten() {
    let root = TempDir::new().unwrap();
    let made = Wallet::create_throwaway(root.path(), "demo", "miner").unwrap();
    let opened = Wallet::open(root.path(), "demo", "miner", no_env).unwrap();
    assert_eq!((opened.coldkey_ss58(), opened.hotkey_ss58()), (made.coldkey_ss58(), made.hotkey_ss58()));
    assert_eq!(opened.coldkey(no_env).unwrap().ss58(), made.coldkey_ss58());
    assert_ne!(made.coldkey_ss58(), made.hotkey_ss58());
    let files = ["coldkey", "coldkeypub.txt", "hotkeys/miner"].map(|file| root.path().join("demo").join(file));
    let before = files.each_ref().map(|path| fs::read(path).unwrap());
    #[cfg(unix)]
    files.iter().for_each(|path| assert_eq!(mode(path), 0o600, "{}", path.display()));
    let again = Wallet::create_throwaway(root.path(), "demo", "miner").unwrap_err();
    assert!(matches!(again, ChainError::WalletExists { .. }));
    let second_hotkey = Wallet::create_throwaway(root.path(), "demo", "other").unwrap_err();
    assert!(matches!(second_hotkey, ChainError::WalletExists { .. }));
    assert_eq!(before, files.each_ref().map(|path| fs::read(path).unwrap()));
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_coldkey_that_is_not_coldkeypubs_is_refused() {
    let root = with_hotkey(hotkey_file().to_string());
    fs::copy(root.path().join("w/hotkeys/h"), root.path().join("w/coldkey")).unwrap();
    let error = open(&root).unwrap().coldkey(no_env).unwrap_err().to_string();
    assert!(error.contains("coldkeypub.txt names 5DfhGyQ"), "{error}");
    assert!(KeyPair::from_phrase("not a phrase").is_none());
}

#[test]
fn a_byte_order_mark_is_called_by_its_name() {
    let marked = [b"\xef\xbb\xbf", hotkey_file().to_string().as_bytes()].concat();
    let error = open(&with_hotkey(marked)).unwrap_err().to_string();
    assert!(error.contains("byte order mark"), "{error}");
    let wide: Vec<u8> = hotkey_file().to_string().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let error = open(&with_hotkey([&[0xff, 0xfe], &*wide].concat())).unwrap_err().to_string();
    assert!(error.contains("not the JSON object"), "{error}");
}

#[test]
fn order_and_layout_of_a_keyfile_do_not_matter() {
    let Value::Object(file) = hotkey_file() else { panic!("an object") };
    let address = file["ss58Address"].as_str().unwrap().to_owned();
    let mut pairs: Vec<_> = file.into_iter().collect();
    for turn in 0..pairs.len() {
        pairs.rotate_left(1);
        let file = Value::Object(pairs.iter().cloned().collect());
        let text = if turn % 2 == 0 { format!("\r\n{file:#}\n\n") } else { format!("{file} \t") };
        assert_eq!(open(&with_hotkey(text)).unwrap().hotkey_ss58(), address);
    }
}

#[test]
fn phrases_of_any_kind_open_or_are_refused() {
    let twelve = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
    let spaced = format!("  {} ", twelve.replace(' ', "  "));
    let ends = format!("{twelve}\n");
    for (phrase, sound) in [
        (twelve, true),
        (&spaced, true),
        (&ends, true),
        (&twelve.replace("about", "abandon"), false),
        (&twelve.to_uppercase(), false),
        (&twelve[8..], false),
        (&[twelve, twelve].join(" "), false),
        ("", false),
        ("\u{0}", false),
        (&"abandon ".repeat(8000), false),
    ] {
        let file = json!({ "secretPhrase": phrase }).to_string();
        assert_eq!(open(&with_hotkey(file)).is_ok(), sound, "{phrase:.60}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_damage_to_a_keyfile_is_a_panic_or_shows_a_secret(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let plain = hotkey_file().to_string().into_bytes();
        let sealed = fs::read(fixture("wallet/keyfile_ansible.txt")).unwrap();
        for mut file in [plain, sealed] {
            let place = place.index(file.len());
            file[place] = byte;
            if cut {
                file.truncate(place);
            }
            let root = with_hotkey(file);
            if let Err(error) = Wallet::open(root.path(), "w", "h", |name| Some(saved(name, PASSWORD))) {
                let text = format!("{error} {error:?}");
                prop_assert!(text.contains("hotkeys/h") && !text.contains("abandon") && text.len() < 2000, "{}", text);
            }
        }
    }

    #[test]
    fn anything_may_stand_in_a_keyfile(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
        let file = json!({ "secretPhrase": text, "secretSeed": text, "ss58Address": text }).to_string();
        for content in [bytes, text.into_bytes(), file.into_bytes()] {
            prop_assert!(open(&with_hotkey(content)).is_err());
        }
    }
}
