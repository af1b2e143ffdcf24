//! A project as the file that says the same without variables, defaults and relative paths.

use serde_json::{Map, Value, json};

use super::{Condition, Project, Service};
use crate::app::VERSION;

impl Project {
    /// The file. What is read from it is this project.
    ///
    /// # Errors
    /// A path in it is no text.
    pub fn to_json(&self) -> serde_json::Result<Value> {
        let mut services = Map::new();
        for (name, service) in &self.services {
            services.insert(name.clone(), service.to_json()?);
        }
        Ok(json!({
            "version": VERSION,
            "name": self.name,
            "services": services,
            "networks": self.networks,
            "volumes": self.volumes,
        }))
    }
}

impl Service {
    fn to_json(&self) -> serde_json::Result<Value> {
        let mut service = serde_json::to_value(&self.app)?;
        if let Some(keys) = service.as_object_mut() {
            for key in ["name", "version"] {
                keys.remove(key);
            }
            let condition = |(name, condition): (&String, &Condition)| {
                (name.clone(), json!({ "condition": condition }))
            };
            let needs: Map<_, _> = self.depends_on.iter().map(condition).collect();
            keys.insert("dependsOn".into(), needs.into());
            keys.insert("networks".into(), serde_json::to_value(&self.networks)?);
            keys.insert("scale".into(), self.scale.into());
            keys.insert("profiles".into(), self.profiles.clone().into());
        }
        Ok(service)
    }
}
