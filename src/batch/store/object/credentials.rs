//! The files in which AWS tools keep credentials; `object_store` reads only the environment, and asks services.

use std::fs;
use std::io;
use std::path::PathBuf;

use object_store::aws::AmazonS3ConfigKey as Key;

use crate::error::{Error, Result};

/// Settings for each of which neither the environment nor a service has a say, from `~/.aws/credentials` and
/// `~/.aws/config`.
///
/// # Errors
/// `Io` where a file is there and cannot be read; `Usage` where `AWS_PROFILE` names a profile that is in neither.
pub(super) fn from_files(environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(Key, String)>> {
    let home = || environment("HOME").map(PathBuf::from);
    let file = |variable: &str, name: &str| {
        environment(variable).map(PathBuf::from).or_else(|| Some(home()?.join(".aws").join(name)))
    };
    let profile = environment("AWS_PROFILE");
    let name = profile.as_deref().unwrap_or("default");
    let mut settings = Vec::new();
    let mut found = false;
    let read = [
        (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name.to_owned()),
        (
            file("AWS_CONFIG_FILE", "config"),
            if name == "default" { name.to_owned() } else { format!("profile {name}") },
        ),
    ];
    for (path, section) in read {
        let Some(path) = path else { continue };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let of = section_of(&text, &section);
                found |= of.is_some();
                settings.extend(of.unwrap_or_default());
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(Error::io(path, "read", error)),
        }
    }
    if let Some(profile) = profile.filter(|_| !found) {
        let message =
            format!("AWS_PROFILE names `{profile}`, which is in neither ~/.aws/credentials nor ~/.aws/config");
        return Err(Error::new(crate::error::ErrorKind::Usage, message));
    }
    let set = |name: &str| environment(name).is_some();
    // Half of a pair from here and half from there is none.
    let elsewhere = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"].into_iter().any(set);
    let mut chosen: Vec<(Key, String)> = Vec::new();
    for (name, value) in settings {
        let key = match name.as_str() {
            "aws_access_key_id" if !elsewhere => Key::AccessKeyId,
            "aws_secret_access_key" if !elsewhere => Key::SecretAccessKey,
            "aws_session_token" if !elsewhere => Key::Token,
            "region" if !set("AWS_REGION") && !set("AWS_DEFAULT_REGION") => Key::Region,
            "endpoint_url" if !set("AWS_ENDPOINT_URL") && !set("AWS_ENDPOINT") && !set("AWS_ENDPOINT_URL_S3") => {
                Key::Endpoint
            }
            _ => continue,
        };
        // The file of credentials comes first.
        if chosen.iter().all(|(known, _)| *known != key) {
            chosen.push((key, value));
        }
    }
    Ok(chosen)
}

/// The settings below `[section]`; `None` where there is no such line.
fn section_of(text: &str, section: &str) -> Option<Vec<(String, String)>> {
    let mut settings = None;
    let mut inside = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            inside = name.0.split_whitespace().eq(section.split_whitespace());
            if inside {
                settings.get_or_insert_with(Vec::new);
            }
        } else if inside
            && !trimmed.starts_with(['#', ';'])
            // What is indented belongs to the setting above.
            && !line.starts_with([' ', '\t'])
            && let Some((name, value)) = trimmed.split_once('=')
        {
            let value = value.split(" #").next().unwrap_or_default().trim();
            settings.get_or_insert_with(Vec::new).push((name.trim().to_ascii_lowercase(), value.to_owned()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(environment: &[(&str, &str)]) -> Result<Vec<(Key, String)>> {
        let get = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        from_files(&get)
    }

    #[test]
    fn files_are_asked_for_what_the_environment_does_not_say() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aws")).unwrap();
        let credentials = "# keys\n[default]\naws_access_key_id = AKIDEFAULT\naws_secret_access_key=s3cret/+=\n\n\
            [work]\naws_access_key_id = AKIWORK\naws_secret_access_key = other\naws_session_token = tok\n";
        let config = "[default]\nregion = eu-west-1 # near\n[profile work]\nregion=us-east-2\ns3 =\n  region = no\n\
            endpoint_url = http://127.0.0.1:9\n";
        fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        fs::write(home.path().join(".aws/config"), config).unwrap();
        let home = home.path().to_str().unwrap();
        let pairs = |list: Vec<(Key, String)>| list.into_iter().map(|(k, v)| format!("{k:?}={v}")).collect::<Vec<_>>();
        assert_eq!(
            pairs(of(&[("HOME", home)]).unwrap()),
            ["AccessKeyId=AKIDEFAULT", "SecretAccessKey=s3cret/+=", "Region=eu-west-1"]
        );
        assert_eq!(
            pairs(of(&[("HOME", home), ("AWS_PROFILE", "work"), ("AWS_REGION", "x")]).unwrap()),
            ["AccessKeyId=AKIWORK", "SecretAccessKey=other", "Token=tok", "Endpoint=http://127.0.0.1:9"]
        );
        // Keys of the environment are not mixed with those of a file.
        assert_eq!(pairs(of(&[("HOME", home), ("AWS_ACCESS_KEY_ID", "A")]).unwrap()), ["Region=eu-west-1"]);
        let error = of(&[("HOME", home), ("AWS_PROFILE", "none")]).unwrap_err();
        assert!(error.to_string().contains("`none`"), "{error}");
        assert_eq!(of(&[("HOME", "/nowhere")]).unwrap(), []);
    }
}
