//! An image's configuration as what an app.json says of its program.
//!
//! The one thing to know: the file wins over the image, field by field.

use std::path::Path;

use anyhow::{Context, Result};
use image::Config;
use vmm::app::{App, Duration, HealthCheck, Id, MAX_LABELS, Port, Signal, Tmpfs, User, is_label};

/// Has `app` be run as `config` says where it says nothing itself. `ids` tells the numbers of a user
/// that is not named as an app.json would.
pub fn fill_in(
    app: &mut App,
    config: &Config,
    ids: impl Fn(&str) -> Result<(u32, u32)>,
) -> Result<()> {
    let program = &mut app.app;
    // A program of the file's own has no use for another one's arguments and checks.
    if program.entrypoint.is_empty() {
        if app.healthcheck.is_none() {
            app.healthcheck = config.healthcheck.as_ref().and_then(health_check);
        }
        program.entrypoint = config.entrypoint.clone().unwrap_or_default();
        if program.args.is_empty() {
            program.args = config.cmd.clone().unwrap_or_default();
        }
    }
    let variables = config.env.iter().flatten();
    let variables = variables.filter_map(|variable| variable.split_once('='));
    for (name, value) in variables.filter(|(name, _)| !name.is_empty()) {
        let variable = program.env.entry(name.into());
        variable.or_insert_with(|| Some(value.into()));
    }
    if program.cwd.is_none() {
        let folder = config.working_dir.as_deref();
        program.cwd = folder.map(|folder| format!("/{}", folder.trim_start_matches('/')));
    }
    if program.user.is_none() {
        let user = config.user.as_deref().filter(|user| !user.is_empty());
        program.user = user.map(|user| user_of(user, ids)).transpose()?;
    }
    if program.stop_signal.is_none() {
        let signal = config.stop_signal.as_deref();
        let signal = signal.filter(|text| !text.is_empty());
        let signal = signal.map(str::parse::<Signal>);
        let signal = signal.transpose().map_err(anyhow::Error::msg);
        program.stop_signal = signal.context("the image's StopSignal")?;
    }
    let labels = config.labels.iter().flatten();
    for (name, text) in labels.filter(|(name, text)| is_label(name, text)) {
        // A machine has so many at most; those that do not fit are left out.
        if app.labels.len() < MAX_LABELS {
            let label = app.labels.entry(name.clone());
            label.or_insert_with(|| text.clone());
        }
    }
    Ok(())
}

/// Has `app` have in memory the folders that its image says to be written to, where nothing can be
/// written to its root.
pub fn add_folders(app: &mut App, config: &Config) {
    if !app.root.read_only {
        return;
    }
    for folder in config.volumes().map(Path::new) {
        let shares = app.shares.iter().map(|share| &share.mount_point);
        let volumes = app.volumes.iter().flat_map(|volume| &volume.mount_point);
        let tmpfs = app.tmpfs.iter().map(|tmpfs| &tmpfs.mount_point);
        let mut mounted = shares.chain(volumes).chain(tmpfs);
        let is_own = mounted.any(|point| point.components().eq(folder.components()));
        if !is_own {
            app.tmpfs.push(Tmpfs {
                mount_point: folder.into(),
                ..Tmpfs::default()
            });
        }
    }
}

fn user_of(user: &str, ids: impl Fn(&str) -> Result<(u32, u32)>) -> Result<String> {
    // Of a group's name only the image knows the number, which the machine's shares are mapped by.
    let has_named_group = |user: &User| matches!(user.group, Some(Id::Name(_)));
    if user.parse().is_ok_and(|user| !has_named_group(&user)) {
        return Ok(user.into());
    }
    let (uid, gid) = ids(user)?;
    Ok(format!("{uid}:{gid}"))
}

/// A port that the image's program serves, at one of the host's that is picked: `80` or `53/udp`.
pub fn port(text: &str) -> Result<Port> {
    let port = format!(":{text}").parse().map_err(anyhow::Error::msg);
    port.with_context(|| format!("the image's ExposedPorts {text:?}"))
}

fn health_check(check: &image::HealthCheck) -> Option<HealthCheck> {
    let (kind, rest) = check.test.as_ref()?.split_first()?;
    let exec = match (kind.as_str(), rest) {
        ("CMD", [_, ..]) => rest.to_vec(),
        ("CMD-SHELL", [line]) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        _ => return None,
    };
    let mut health = HealthCheck::of_command(exec);
    let or = |nanoseconds: u64, default| match nanoseconds {
        0 => default,
        some => Duration::from_ms((some / 1_000_000).max(1)),
    };
    health.interval = or(check.interval, health.interval);
    health.timeout = or(check.timeout, health.timeout);
    health.start_period = or(check.start_period, health.start_period);
    if check.retries > 0 {
        health.retries = check.retries;
    }
    Some(health)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;
    use serde_json::json;
    use vmm::app::{Volume, VolumeSize};

    use super::*;

    fn app(config: &Config) -> App {
        filled(App::new("a", Vec::new()), config).unwrap()
    }

    fn filled(mut app: App, config: &Config) -> Result<App> {
        fill_in(&mut app, config, |user| match user {
            "app:web" => Ok((7, 9)),
            _ => bail!("no such user"),
        })?;
        Ok(app)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).into()).collect()
    }

    #[test]
    fn a_configuration_says_how_the_program_is_run() {
        let config = Config {
            user: Some("app:web".into()),
            env: Some(words(&["PATH=/bin", "EMPTY=", "EQUAL=a=b", "none", "=x"])),
            entrypoint: Some(words(&["/bin/httpd"])),
            cmd: Some(words(&["-f", "-p", "80"])),
            working_dir: Some("srv".into()),
            ..Config::default()
        };
        let program = app(&config).app;
        assert_eq!(
            program.argv().collect::<Vec<_>>(),
            ["/bin/httpd", "-f", "-p", "80"]
        );
        assert_eq!((program.cwd(), program.user()), ("/srv", "7:9"));
        let value = |name: &str| program.env.get(name).and_then(Option::as_deref);
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("EMPTY"), Some(""));
        assert_eq!(value("EQUAL"), Some("a=b"));
        assert_eq!(program.env.len(), 3);
    }

    #[test]
    fn what_it_does_not_say_is_as_in_an_app_json() {
        let program = app(&Config::default()).app;
        assert_eq!((program.cwd(), program.user()), ("/", "root"));
        for user in ["app", "1000", "1000:5"] {
            let config = Config {
                user: Some(user.into()),
                ..Config::default()
            };
            assert_eq!(app(&config).app.user(), user);
        }
    }

    #[test]
    fn what_the_file_says_wins() {
        let config = Config {
            entrypoint: Some(words(&["/bin/httpd"])),
            cmd: Some(words(&["-f"])),
            env: Some(words(&["A=1", "B=1", "C=1"])),
            user: Some("nobody:there".into()),
            stop_signal: Some("SIGWINCH".into()),
            labels: Some([("a".into(), "1".into()), ("b".into(), "1".into())].into()),
            ..Config::default()
        };
        let mut app = App::new("a", Vec::new());
        app.app.args = words(&["-p", "80"]);
        app.app.user = Some("nobody".into());
        app.app.env = [("B".into(), None), ("C".into(), Some("2".into()))].into();
        app.labels.insert("b".into(), "2".into());
        let app = filled(app, &config).unwrap();
        let argv: Vec<_> = app.app.argv().collect();
        assert_eq!(argv, ["/bin/httpd", "-p", "80"]);
        assert_eq!(app.app.user(), "nobody");
        let env: Vec<_> = app.app.env.values().map(Option::as_deref).collect();
        assert_eq!(env, [Some("1"), None, Some("2")]);
        assert_eq!(app.app.stop_signal().to_string(), "SIGWINCH");
        assert_eq!(app.labels.into_values().collect::<Vec<_>>(), ["1", "2"]);

        let app = filled(App::new("a", words(&["sh"])), &config);
        assert_eq!(app.unwrap_err().to_string(), "no such user");
        let config = Config {
            user: None,
            stop_signal: Some("SIGNONE".into()),
            ..config
        };
        let error = filled(App::new("a", words(&["sh"])), &config).unwrap_err();
        assert!(format!("{error:#}").starts_with("the image's StopSignal: must be a signal"));
    }

    #[test]
    fn what_is_written_to_is_in_memory_where_the_root_is_read_only() {
        let config = Config {
            volumes: Some(
                ["/data", "/log/"]
                    .map(|path| (path.into(), json!({})))
                    .into(),
            ),
            ..Config::default()
        };
        let mut app = App::new("a", words(&["sh"]));
        let with_folders = |app: &App| {
            let mut app = filled(app.clone(), &config).unwrap();
            assert!(app.tmpfs.is_empty() || app.root.read_only);
            add_folders(&mut app, &config);
            app
        };
        assert!(with_folders(&app).tmpfs.is_empty());
        app.root.read_only = true;
        app.volumes.push(Volume {
            mount_point: Some("/data".into()),
            ..Volume::named("data", VolumeSize::default())
        });
        let once = with_folders(&app);
        let points = once.tmpfs.iter().map(|tmpfs| &tmpfs.mount_point);
        assert_eq!(points.collect::<Vec<_>>(), [Path::new("/log/")]);
        assert_eq!(with_folders(&once), once);
    }

    #[test]
    fn a_file_can_do_without_the_images_check() {
        let config = Config {
            healthcheck: Some(image::HealthCheck {
                test: Some(words(&["CMD", "true"])),
                ..image::HealthCheck::default()
            }),
            ..Config::default()
        };
        let mut app = App::new("a", Vec::new());
        let checks = |app: &App| {
            filled(app.clone(), &config)
                .unwrap()
                .health_check()
                .is_some()
        };
        assert!(checks(&app));
        app.healthcheck = Some(HealthCheck {
            exec: None,
            disable: true,
            ..HealthCheck::of_command(Vec::new())
        });
        assert!(!checks(&app));
    }

    #[test]
    fn another_program_gets_none_of_the_images_arguments() {
        let config = Config {
            entrypoint: Some(words(&["/bin/httpd"])),
            cmd: Some(words(&["-f"])),
            ..Config::default()
        };
        let app = filled(App::new("a", words(&["sh"])), &config).unwrap();
        assert_eq!(app.app.argv().collect::<Vec<_>>(), ["sh"]);
    }

    #[test]
    fn exposed_ports_are_published_at_any() {
        for (text, expected) in [
            ("80/tcp", "127.0.0.1:0:80/tcp"),
            ("53/udp", "127.0.0.1:0:53/udp"),
            ("8000-8002/tcp", "127.0.0.1:0:8000-8002/tcp"),
        ] {
            assert_eq!(port(text).unwrap().to_string(), expected);
        }
        assert!(port("http").is_err());
    }

    #[test]
    fn a_health_check_is_a_command() {
        let check = |test: &[&str]| {
            health_check(&image::HealthCheck {
                test: Some(words(test)),
                interval: 5_000_000_000,
                retries: 4,
                ..image::HealthCheck::default()
            })
        };
        let exec = |test: &[&str]| check(test).and_then(|health| health.exec);
        assert_eq!(
            exec(&["CMD", "curl", "-f", "x"]),
            Some(words(&["curl", "-f", "x"]))
        );
        assert_eq!(
            exec(&["CMD-SHELL", "true || x"]),
            Some(words(&["/bin/sh", "-c", "true || x"]))
        );
        assert_eq!(exec(&["NONE"]), None);
        assert_eq!(exec(&[]), None);
        let health = check(&["CMD", "x"]).unwrap();
        assert_eq!(
            (health.interval, health.retries),
            (Duration::from_secs(5), 4)
        );
        assert_eq!(health.timeout, Duration::from_secs(30));
    }
}
