# A job of the docker driver, whose client has `allow_runtimes = ["runc", "mvm"]` and contrib/docker/daemon.json.
job "web" {
  group "web" {
    network {
      port "http" { to = 80 }
    }
    task "web" {
      driver = "docker"
      config {
        image   = "nginx"
        runtime = "mvm"
        ports   = ["http"]
      }
      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
