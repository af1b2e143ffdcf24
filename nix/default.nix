# The library: app.json files, and programs that run them, of Nix expressions. Each builder takes `pkgs` of its caller,
# of which it uses runCommand, writeText and writeShellScript.
#
# The one thing to know: a file that Nix writes refers to each store path that it names, so its closure is the machine's.
let
  inherit (builtins) intersectAttrs mapAttrs removeAttrs toJSON;
  inherit (import ./values.nix) merge secrets;
  docker = import ./docker.nix;

  mainProgram = package: "${package}/bin/${package.meta.mainProgram or package.pname or package.name}";

  # The fields of buildApp's arguments: its own win over those of dockerTools.
  fieldsOf = pkgs: { package ? null, ... }@args:
    let
      own = removeAttrs args (builtins.attrNames (removeAttrs docker.arguments [ "name" ]) ++ [ "package" "mvm" "name" ]);
      theirs = docker.fields pkgs (intersectAttrs docker.arguments args);
      program = if package == null then { } else { app.entrypoint = [ (mainProgram package) ]; };
      fields = merge (merge theirs program) own;
    in if own ? image && theirs ? image
    then throw "mvm: ${args.name}: an `image` brings its root, so copyToRoot, Volumes and WorkingDir are not for it"
    else { version = 1; } // fields // (if fields ? secrets then { secrets = secrets fields.secrets; } else { });

  # A folder with the file, and with a program that has mvm carry it out. The file is a store path of its own, so that
  # mvm is not in the machine's closure. Without the overlay's mvm, that of the PATH is used.
  runnable = pkgs: { name, kind, command, fields, mvm ? pkgs.mvm or null }:
    let
      file = pkgs.writeText "${name}.json" (toJSON fields);
      program = if mvm == null then "mvm" else "${mvm}/bin/mvm";
      run = pkgs.writeShellScript "run-${name}" ''
        exec ${program} ${command} ${file} "$@"
      '';
    in pkgs.runCommand "${name}-machine" {
      passthru = { inherit fields file; };
      meta.mainProgram = "run-${name}";
    } ''
      mkdir -p $out/bin
      ln -s ${file} $out/${kind}.json
      ln -s ${run} $out/bin/run-${name}
    '';

  # The mvm of the arguments, where they name one.
  chosen = args: if args ? mvm then { inherit (args) mvm; } else { };
in rec {
  # One program as a machine: dockerTools' arguments, `package` for a package's main program, and each field of app.json.
  buildApp = pkgs: args:
    let fields = fieldsOf pkgs args;
    in runnable pkgs ({ inherit (fields) name; inherit fields; kind = "app"; command = "run"; } // chosen args);

  # Several: services have the arguments of buildApp, and all else is as in compose.json.
  buildCompose = pkgs: { name, services, ... }@args:
    let
      service = called: own: removeAttrs (fieldsOf pkgs ({ name = called; } // own)) [ "name" "version" ];
      fields = { version = 1; } // removeAttrs args [ "mvm" ] // { services = mapAttrs service services; };
    in runnable pkgs ({ inherit name fields; kind = "compose"; command = "up -f"; } // chosen args);

  # A NixOS system: `nixos`, what nixosSystem returns, or `configuration`, a module. All else is as in app.json.
  buildSystem = pkgs: { configuration ? { }, nixos ? pkgs.nixos { imports = [ ./guest.nix configuration ]; }
    , name ? nixos.config.networking.hostName, system ? { }, ... }@args:
    buildApp pkgs ({ memory = "1G"; } // removeAttrs args [ "configuration" "nixos" ] // {
      inherit name;
      system = { path = "${nixos.config.system.build.toplevel}"; } // system;
    });

  # Two sets of fields as one, the second over the first.
  inherit merge;

  # The fields of what dockerTools.buildImage or buildLayeredImage is called with.
  fromDocker = docker.fields;

  # The fields of `containers.<name>`: a NixOS container's options.
  fromContainer = (import ./container.nix).fields;
}
