//! The claim of a workspace's volume.

use crate::kubernetes::names;
use config::{BadValue, Values, Volume, VolumeAccess};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// The template of the claim of what a selector selects. It cannot be changed once the StatefulSet exists, so that it
/// holds only what a workspace keeps for life: its owner, if it has one by then, and not its template.
pub(super) fn claim(
    selector: BTreeMap<String, String>,
    owner: Option<String>,
    volume: &Volume,
    values: &Values,
) -> Result<PersistentVolumeClaim, BadValue> {
    let size = Quantity(volume.size.given(values)?.to_owned());
    let labels = selector.into_iter().chain([(names::MANAGED_BY.to_owned(), names::USHER.to_owned())]);
    Ok(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::HOME.to_owned()),
            labels: Some(labels.collect()),
            annotations: owner.map(|owner| BTreeMap::from([(names::OWNER.to_owned(), owner)])),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec![access(volume.access).to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
                limits: None,
            }),
            storage_class_name: volume.class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

fn access(access: VolumeAccess) -> &'static str {
    match access {
        VolumeAccess::ReadWriteOnce => "ReadWriteOnce",
        VolumeAccess::ReadWriteOncePod => "ReadWriteOncePod",
        VolumeAccess::ReadWriteMany => "ReadWriteMany",
    }
}
