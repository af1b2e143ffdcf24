# The arguments of dockerTools' and nix2container's builders as fields of an app.json.
let
  inherit (builtins) attrNames concatStringsSep div isAttrs;
  inherit (import ./values.nix) ensureNone given list lowerCase machineName variables;

  # Arguments that say how an image is made, of which there is none here.
  meaningless = [
    "arch" "architecture" "buildVMMemorySize" "compressor" "created" "diskSize" "fromImageName" "fromImageTag"
    "includeStorePaths" "keepContentsDirlinks" "layeringPipeline" "layers" "maxLayers" "meta" "mtime" "passthru"
  ];

  # Those that a store path cannot be, and what to do instead.
  refused = {
    fromImage = "give the image that they make as `image`";
    runAsRoot = "say it in a program of yours, or give the image that they make as `image`";
    fakeRootCommands = "files of the store are root's; have the program make what is somebody else's";
    enableFakechroot = "files of the store are root's; have the program make what is somebody else's";
    perms = "files of the store are root's; have the program make what is somebody else's";
    uid = "files of the store are root's";
    gid = "files of the store are root's";
    uname = "files of the store are root's";
    gname = "files of the store are root's";
    nixUid = "the store's files are root's";
    nixGid = "the store's files are root's";
  };

  # Keys of `config` in any case, as docker and nix2container read them.
  keys = [
    "Entrypoint" "Cmd" "Env" "ExposedPorts" "WorkingDir" "User" "Volumes" "StopSignal" "StopTimeout" "Labels" "Healthcheck"
    "Hostname" "Tty" "OpenStdin"
  ];
  # What means nothing to a machine, or to an image that is made by Nix.
  idle = [ "ArgsEscaped" "AttachStderr" "AttachStdin" "AttachStdout" "Image" "OnBuild" "Shell" "StdinOnce" ];
  canonical = name: config: builtins.listToAttrs (builtins.concatMap (key:
    let
      isKey = known: lowerCase known == lowerCase key;
      found = builtins.filter isKey keys;
    in if found != [ ] then [ { name = builtins.head found; value = config.${key}; } ]
      else if builtins.any isKey idle then [ ]
      else throw "mvm: ${name}: config.${key} is nothing that mvm knows; there are ${concatStringsSep ", " keys}"
  ) (attrNames config));

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

  # Packages put together as a root file system by links, folders that a container engine would make, and what commands
  # make there, as dockerTools runs them.
  rootOf = pkgs: name: packages: folders: commands: pkgs.runCommand "${name}-root" { } ''
    mkdir $out
    for package in ${concatStringsSep " " (map (package: "${package}") packages)}; do
      cp -rsf "$package"/. $out/
      chmod -R u+w $out
    done
    for folder in ${concatStringsSep " " (map (folder: "'${folder}'") folders)}; do mkdir -p "$out/$folder"; done
    cd $out
    ${commands}
  '';
in {
  # What of buildApp's arguments is dockerTools' or nix2container's.
  arguments = { name = null; tag = null; copyToRoot = null; contents = null; config = null; extraCommands = null;
    includeNixDB = null; initializeNixDatabase = null; } // refused
    // builtins.listToAttrs (map (name: { inherit name; value = null; }) meaningless);

  # Fields of what `docker run` would make of the image that these arguments are of. Exposed ports lead to free ports of
  # the host's loopback, as with `docker run -P`; `ports` of one's own are written in their place.
  fields = pkgs: { name, tag ? null, copyToRoot ? null, contents ? null, config ? { }, extraCommands ? ""
    , includeNixDB ? false, initializeNixDatabase ? false, ... }@args:
    let
      isKnown = argument: builtins.elem argument ([ "name" "tag" "copyToRoot" "contents" "config" "extraCommands"
        "includeNixDB" "initializeNixDatabase" ] ++ meaningless ++ attrNames refused);
      unknown = builtins.filter (argument: !(isKnown argument)) (attrNames args);
      hasNixDatabase = includeNixDB || initializeNixDatabase;
      container = { Entrypoint ? null, Cmd ? null, Env ? [ ], ExposedPorts ? { }, WorkingDir ? null, User ? null
        , Volumes ? { }, StopSignal ? null, StopTimeout ? null, Labels ? { }, Healthcheck ? { }, Hostname ? null
        , Tty ? false, OpenStdin ? false }:
        let
          program = list Entrypoint ++ list Cmd;
          hasBoth = list Entrypoint != [ ];
          folders = attrNames Volumes ++ (if list WorkingDir == [ "/" ] then [ ] else list WorkingDir);
          packages = list copyToRoot ++ list contents;
          hasRoot = packages ++ folders != [ ] || extraCommands != "";
        in given {
          name = machineName name;
          hostname = if Hostname == "" then null else Hostname;
          image = if hasRoot then "${rootOf pkgs (machineName name) packages folders extraCommands}" else null;
          labels = given { "org.opencontainers.image.version" = tag; } // (if Labels == null then { } else Labels);
          ports = map (port: ":${port}") (attrNames ExposedPorts);
          healthcheck = healthcheck Healthcheck;
          store = if hasNixDatabase then { writable = true; registerClosure = true; } else null;
          app = given {
            entrypoint = if hasBoth then list Entrypoint else program;
            args = if hasBoth then list Cmd else [ ];
            env = if isAttrs Env then Env else variables Env;
            cwd = WorkingDir;
            user = if User == "" then null else User;
            tty = if Tty then true else null;
            stdin = if OpenStdin then true else null;
            stopSignal = StopSignal;
            stopTimeout = if StopTimeout == null then null else "${toString StopTimeout}s";
          };
        };
    in if unknown != [ ]
    then throw "mvm: ${name}: ${builtins.head unknown} is no argument of dockerTools that mvm knows"
    else builtins.seq (ensureNone name refused args) (container (if config == null then { } else canonical name config));
}
