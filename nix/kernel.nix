# mvm's own kernel: the configuration and patches of guest-kernel/ on the sources of nixpkgs. As guest-kernel/build,
# which has Debian's: tinyconfig, the fragments on top, and what neither names is `n`.
{ stdenv, linuxKernel, bc, bison, elfutils, flex, perl }:
let
  sources = linuxKernel.kernels.linux_6_12;
  fragments = ../guest-kernel/config;
  patches = ../guest-kernel/patches;
in stdenv.mkDerivation {
  pname = "mvm-kernel";
  inherit (sources) version src;
  patches = map (name: patches + "/${name}") (builtins.attrNames (builtins.readDir patches));
  nativeBuildInputs = [ bc bison elfutils flex perl ];
  buildInputs = [ elfutils ];
  # Kernels bring their own flags.
  hardeningDisable = [ "all" ];
  enableParallelBuilding = true;
  postPatch = "patchShebangs scripts";

  configurePhase = ''
    runHook preConfigure
    make tinyconfig
    scripts/kconfig/merge_config.sh -m .config ${fragments}/*.config
    mv .config requested.config
    make KCONFIG_ALLCONFIG=requested.config allnoconfig
    make olddefconfig
    runHook postConfigure
  '';

  # Fixed names: the same inputs give the same file.
  KBUILD_BUILD_USER = "mvm";
  KBUILD_BUILD_HOST = "mvm";
  KBUILD_BUILD_VERSION = "1";
  buildFlags = [ "vmlinux" ];

  installPhase = ''
    runHook preInstall
    install -d $out
    strip --strip-all -o $out/vmlinux vmlinux
    runHook postInstall
  '';
  dontStrip = true;
}
