# The arguments of dockerTools' and nix2container's builders as fields of an app.json.
let
  inherit (builtins) attrNames concatStringsSep div isAttrs;
  inherit (import ./values.nix) given list machineName variables;

  # Docker counts nanoseconds.
  duration = nanoseconds: if nanoseconds == 0 then null else "${toString (div nanoseconds 1000000)}ms";

  healthcheck = { Test ? [ ], Interval ? 0, Timeout ? 0, StartPeriod ? 0, Retries ? 0 }:
    let
      kind = if Test == [ ] then "" else builtins.head Test;
      words = builtins.tail Test;
      exec = {
        "CMD" = words;
        "CMD-SHELL" = [ "/bin/sh" "-c" ] ++ words;
      }.${kind} or null;
    in if exec == null then { } else given {
      inherit exec;
      interval = duration Interval;
      timeout = duration Timeout;
      startPeriod = duration StartPeriod;
      retries = if Retries == 0 then null else Retries;
    };

  # Packages put together as a root file system by links, and folders that a container engine would make.
  rootOf = pkgs: name: packages: folders: pkgs.runCommand "${name}-root" { } ''
    mkdir $out
    for package in ${concatStringsSep " " (map (package: "${package}") packages)}; do
      cp -rsf "$package"/. $out/
      chmod -R u+w $out
    done
    for folder in ${concatStringsSep " " (map (folder: "'${folder}'") folders)}; do mkdir -p "$out/$folder"; done
  '';
in {
  # What of buildApp's arguments is dockerTools'.
  arguments = { name = null; tag = null; copyToRoot = null; contents = null; config = null; created = null; maxLayers = null; };

  # Fields of what `docker run` would make of the image that these arguments are of. Exposed ports lead to free ports of
  # the host's loopback, as with `docker run -P`; `ports` of one's own are written in their place.
  fields = pkgs: { name, tag ? null, copyToRoot ? null, contents ? null, config ? { }, created ? null, maxLayers ? null }:
    let
      container = { Entrypoint ? null, Cmd ? null, Env ? [ ], ExposedPorts ? { }, WorkingDir ? null, User ? null
        , Volumes ? { }, StopSignal ? null, Labels ? { }, Healthcheck ? { } }:
        let
          program = list Entrypoint ++ list Cmd;
          hasBoth = list Entrypoint != [ ];
          folders = attrNames Volumes ++ (if list WorkingDir == [ "/" ] then [ ] else list WorkingDir);
          packages = list copyToRoot ++ list contents;
        in given {
          name = machineName name;
          image = if packages ++ folders == [ ] then null else "${rootOf pkgs (machineName name) packages folders}";
          labels = given { "org.opencontainers.image.version" = tag; } // (if Labels == null then { } else Labels);
          ports = map (port: ":${port}") (attrNames ExposedPorts);
          healthcheck = healthcheck Healthcheck;
          app = given {
            entrypoint = if hasBoth then list Entrypoint else program;
            args = if hasBoth then list Cmd else [ ];
            env = if isAttrs Env then Env else variables Env;
            cwd = WorkingDir;
            user = if User == "" then null else User;
            stopSignal = StopSignal;
          };
        };
    in container (if config == null then { } else config);
}
