# What nix/ uses of nixpkgs' `pkgs`, made of the fixtures, which $MVM_FIXTURES may name: busybox runs each build.
let
  named = builtins.getEnv "MVM_FIXTURES";
  fixtures = if named == "" then toString ../../../target/fixtures else named;
  fixture = name: builtins.storePath "${fixtures}/${name}";
  busybox = fixture "busybox";
  build = name: attributes: script: derivation ({
    inherit name;
    system = "x86_64-linux";
    builder = "${busybox}/bin/busybox";
    args = [ "sh" "-euc" "PATH=${busybox}/bin\n${script}" ];
  } // attributes);
  written = name: text: finish: build name { inherit text; passAsFile = [ "text" ]; } "cp $textPath $out; ${finish}";
  # One program as a package that knows it.
  program = name: script:
    build name { inherit script; passAsFile = [ "script" ]; } ''
      mkdir -p $out/bin
      { echo "#!${busybox}/bin/sh"; cat $scriptPath; } >$out/bin/${name}
      chmod 755 $out/bin/${name}
    '' // { meta.mainProgram = name; };

  packages = rec {
    path = ./.;
    lib = import ./lib.nix;
    runCommand = name: { passthru ? { }, meta ? { }, ... }@attributes: script:
      build name (removeAttrs attributes [ "passthru" "meta" ]) script // passthru // { inherit meta; };
    writeText = name: text: written name text "";
    writeShellScript = name: text: written name "#!${busybox}/bin/sh\n${text}" "chmod 755 $out";
    nixos = configuration: import ./nixos/lib/eval-config.nix { modules = [ configuration ]; };

    hello = { type = "derivation"; name = "hello"; outPath = fixture "hello"; meta.mainProgram = "hello"; };
    # By its arguments: a folder, --port, a number.
    darkhttpd = program "darkhttpd" ''exec ${busybox}/bin/httpd -f -h "$1" -p "$3"'';

    # What the package of mvm asks for. Neither it nor its kernel is built: there is no Rust of nixpkgs, so what comes of
    # them is evaluated, and the mvm of the PATH stands in.
    stdenv.mkDerivation = { pname, version, meta ? { }, passthru ? { }, ... }@attributes:
      let made = builtins.removeAttrs attributes [ "meta" "passthru" ];
      in program "mvm" ''exec mvm "$@"'' // passthru // { inherit meta version; asked = made; };
    rustPlatform = { importCargoLock = { lockFile }: builtins.fromTOML (builtins.readFile lockFile); cargoSetupHook = "hook"; };
    glibc.static = "glibc";
    linuxKernel.kernels.linux_6_12 = { version = "6.12"; src = "linux.tar.xz"; };
  } // builtins.listToAttrs (map (name: { inherit name; value = name; }) [
    "cargo" "rustc" "makeWrapper" "e2fsprogs" "iproute2" "nftables" "passt" "runc" "bc" "bison" "elfutils" "flex" "perl"
  ]);
  extended = set: set // {
    extend = overlay: let final = extended (set // overlay final set); in final;
    callPackage = file: more:
      let call = import file;
      in call (builtins.intersectAttrs (builtins.functionArgs call) (extended set // { inherit (extended set) callPackage; }) // more);
  };
in extended packages // {
  inherit fixture;
  # The mvm of the PATH.
  mvm = program "mvm" ''exec mvm "$@"'';
}
