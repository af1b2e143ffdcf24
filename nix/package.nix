# mvm, and what it looks for beside itself: the program that runs inside guests, and the kernel that it boots.
{ lib, stdenv, callPackage, cargo, rustc, rustPlatform, glibc, makeWrapper, e2fsprogs, iproute2, nftables, passt, runc }:
let
  root = ../.;
  kernel = callPackage ./kernel.nix { };
  target = "x86_64-unknown-linux-gnu";
in stdenv.mkDerivation {
  pname = "mvm";
  version = (lib.importTOML (root + "/Cargo.toml")).workspace.package.version;
  # What cargo does not read would only have it built again.
  src = lib.cleanSourceWith {
    src = lib.cleanSource root;
    filter = path: _: !(builtins.elem path (map (name: toString root + "/" + name) [ "target" "nix" "docs" "bench" ]));
  };
  cargoDeps = rustPlatform.importCargoLock { lockFile = root + "/Cargo.lock"; };
  nativeBuildInputs = [ cargo rustc rustPlatform.cargoSetupHook makeWrapper ];
  # Both programs are static, as the Makefile has them.
  buildInputs = [ glibc.static ];

  buildPhase = ''
    runHook preBuild
    RUSTFLAGS="-C target-feature=+crt-static" \
      cargo build --release --locked --offline --package mvm --target ${target}
    RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
      cargo build --profile guest --locked --offline --package guest --target ${target}
    runHook postBuild
  '';

  installPhase = ''
    runHook preInstall
    install -D -m 755 target/${target}/release/mvm $out/bin/mvm
    install -D -m 755 target/${target}/guest/mvm-init $out/libexec/mvm/mvm-init
    install -d $out/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
    $out/bin/mvm completion bash >$out/share/bash-completion/completions/mvm
    $out/bin/mvm completion zsh >$out/share/zsh/site-functions/_mvm
    $out/bin/mvm completion fish >$out/share/fish/vendor_completions.d/mvm.fish
    $out/bin/mvm man --dir $out/share/man
    install -d $out/lib/mvm
    ln -s ${kernel}/vmlinux $out/lib/mvm/vmlinux
    wrapProgram $out/bin/mvm --suffix PATH : ${lib.makeBinPath [ e2fsprogs iproute2 nftables passt runc ]}
    ln -s mvm $out/bin/mvm-oci
    runHook postInstall
  '';

  passthru = { inherit kernel; };
  meta = {
    description = "Runs a program in its own Linux virtual machine, with the host's Nix store shared";
    license = lib.licenses.asl20;
    mainProgram = "mvm";
    platforms = [ "x86_64-linux" ];
  };
}
