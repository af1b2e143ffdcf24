# What tests/guest/nix.rs builds: each attribute is one call of the library.
let
  pkgs = import ./nixpkgs/pkgs.nix;
  mvm = import ../../nix;
  tools = pkgs.fixture "tools";
  python = pkgs.fixture "python3";
  say = pkgs.writeShellScript "say" ''exec ${tools}/bin/echo "$GREETING" "$@"'';
  page = pkgs.runCommand "page" { } ''
    mkdir -p $out/srv/www $out/bin
    echo "of the root" > $out/srv/www/index.html
    ln -s ${tools}/bin/bash $out/bin/sh
  '';
  more = pkgs.runCommand "more" { } "mkdir -p $out/srv/www; echo more > $out/srv/www/more.html";
in rec {
  app = mvm.buildApp pkgs { name = "hello"; package = pkgs.hello; app.args = [ "--greeting" "of Nix" ]; };

  native = mvm.buildApp pkgs {
    name = "native";
    # That of the PATH.
    mvm = null;
    vcpus = 2;
    memory = "64M";
    app = { entrypoint = say; env.GREETING = "native"; };
    config.Env = [ "GREETING=docker" "LEFT=as it is" ];
  };

  docker = mvm.buildApp pkgs {
    name = "registry.example/shop/Web_App";
    tag = "1.2";
    copyToRoot = [ page more ];
    config = {
      Entrypoint = [ "/bin/sh" "-c" ];
      Cmd = [ "pwd; cat index.html more.html; ${tools}/bin/id -un; echo $A; ${tools}/bin/stat -c %F /data; ls /nix/store" ];
      Env = [ "A=b=c" "PATH=${tools}/bin" ];
      ExposedPorts = { "8080/tcp" = { }; "53/udp" = { }; };
      WorkingDir = "/srv/www";
      User = "nobody";
      Volumes."/data" = { };
      StopSignal = "SIGINT";
      Labels."org.example" = "x";
      Healthcheck = { Test = [ "CMD" "${tools}/bin/true" ]; Interval = 2000000000; Retries = 2; };
    };
  };

  # As nix2container's own examples are written, and with what dockerTools runs in the root.
  lower = mvm.buildApp pkgs {
    name = "lower";
    layers = [ ];
    maxLayers = 100;
    compressor = "zstd";
    extraCommands = "mkdir -p srv; echo made > srv/file";
    config = {
      entrypoint = [ "${tools}/bin/cat" "/srv/file" ];
      env = [ "A=1" ];
      Hostname = "inner";
      StopTimeout = 3;
    };
  };
  wrong = builtins.mapAttrs (name: arguments: (mvm.buildApp pkgs ({ inherit name; package = pkgs.hello; } // arguments)).fields) {
    base = { fromImage = "/nix/store/image.tar"; };
    root = { fakeRootCommands = "chown 1 a"; };
    key = { config.Memory = 1; };
  };

  secret = mvm.buildApp pkgs { name = "secret"; package = pkgs.hello; secrets.token = ./default.nix; };

  compose = mvm.buildCompose pkgs {
    name = "shop";
    defaults.memory = "64M";
    services = {
      web = {
        config.Entrypoint = [ "${python}/bin/python3" "-m" "http.server" "--directory" "${page}/srv/www" "8080" ];
        healthcheck = { tcp.port = 8080; interval = "1s"; startPeriod = "60s"; };
        memory = "128M";
      };
      client = {
        config = { Entrypoint = [ "${tools}/bin/curl" "--silent" ]; Cmd = [ "http://web:8080/" ]; };
        dependsOn.web = "healthy";
      };
    };
  };

  system = mvm.buildSystem pkgs {
    configuration.networking.hostName = "box";
    memory = "512M";
    ready = "notify";
  };

  modules = import ./modules.nix { inherit pkgs; };

  fromDocker = mvm.fromDocker pkgs { name = "a"; config.Cmd = "/bin/a"; };
  container = mvm.buildApp pkgs containers.shared;
  private = mvm.buildApp pkgs containers.private;
  containers = {
    shared = mvm.fromContainer "shared" { path = pkgs.fixture "system"; ephemeral = true; };
    private = mvm.fromContainer "private" {
      config = (pkgs.nixos { }).config;
      privateNetwork = true;
      hostAddress = "10.0.0.1";
      localAddress = "10.0.0.2";
      forwardPorts = [ { hostPort = 80; } { hostPort = 53; containerPort = 5353; protocol = "udp"; } ];
      bindMounts."/data" = { hostPath = "/var/tmp"; isReadOnly = false; };
      bindMounts."/etc" = { };
      additionalCapabilities = [ "CAP_NET_ADMIN" ];
    };
    bridged = mvm.fromContainer "bridged" {
      path = pkgs.fixture "system";
      ephemeral = true;
      privateNetwork = true;
      hostBridge = "br0";
      localAddress = "10.3.0.2/24";
      localAddress6 = "fd00::2/64";
    };
    unknown = mvm.fromContainer "unknown" { path = pkgs.fixture "system"; bindMount = { }; };
    refused = mvm.fromContainer "refused" { path = pkgs.fixture "system"; macvlans = [ "eth0" ]; };
  };
}
