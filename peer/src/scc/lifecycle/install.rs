//! Packages on this peer.

use std::collections::BTreeMap;

use selvedge_proto::lifecycle::{
    GetInstalledChaincodePackageArgs, GetInstalledChaincodePackageResult, InstallChaincodeArgs,
    InstallChaincodeResult, QueryInstalledChaincodeArgs, QueryInstalledChaincodeResult,
    QueryInstalledChaincodesResult, query_installed_chaincode_result as one,
    query_installed_chaincodes_result as many,
};

use super::{Call, Failure, decode, encode, query};

/// Name and version of a chaincode.
type NameAndVersion = (String, String);

pub(super) fn install(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    let args: InstallChaincodeArgs = decode(call)?;
    let installed = call
        .runtime
        .install(&args.chaincode_install_package)
        .map_err(|e| e.to_string())?;
    tracing::info!(package_id = %installed.package_id, "installed chaincode package");
    encode(&InstallChaincodeResult {
        package_id: installed.package_id.clone(),
        label: installed.label.clone(),
    })
}

fn not_found(package_id: &str) -> Failure {
    Failure::NotFound(format!("chaincode install package '{package_id}' not found"))
}

pub(super) fn package(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    let args: GetInstalledChaincodePackageArgs = decode(call)?;
    let installed = call
        .runtime
        .packages()
        .get(&args.package_id)
        .ok_or_else(|| not_found(&args.package_id))?;
    let bytes = installed.bytes().map_err(|e| e.to_string())?;
    encode(&GetInstalledChaincodePackageResult {
        chaincode_install_package: bytes.into(),
    })
}

pub(super) fn query_one(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    let args: QueryInstalledChaincodeArgs = decode(call)?;
    let installed = call
        .runtime
        .packages()
        .get(&args.package_id)
        .ok_or_else(|| not_found(&args.package_id))?;
    let references = references(call)?
        .remove(&installed.package_id)
        .unwrap_or_default();
    let references = references
        .into_iter()
        .map(|(channel, used)| {
            let chaincodes = used
                .into_iter()
                .map(|(name, version)| one::Chaincode { name, version })
                .collect();
            (channel, one::References { chaincodes })
        })
        .collect();
    encode(&QueryInstalledChaincodeResult {
        package_id: installed.package_id.clone(),
        label: installed.label.clone(),
        references,
    })
}

pub(super) fn query_all(call: &Call<'_>) -> Result<Vec<u8>, Failure> {
    let mut references = references(call)?;
    let installed_chaincodes = call
        .runtime
        .packages()
        .list()
        .into_iter()
        .map(|installed| {
            let used = references.remove(&installed.package_id).unwrap_or_default();
            many::InstalledChaincode {
                package_id: installed.package_id.clone(),
                label: installed.label.clone(),
                references: used
                    .into_iter()
                    .map(|(channel, used)| {
                        let chaincodes = used
                            .into_iter()
                            .map(|(name, version)| many::Chaincode { name, version })
                            .collect();
                        (channel, many::References { chaincodes })
                    })
                    .collect(),
            }
        })
        .collect();
    encode(&QueryInstalledChaincodesResult { installed_chaincodes })
}

/// Which package serves which chaincodes on which channel.
fn references(call: &Call<'_>) -> Result<BTreeMap<String, BTreeMap<String, Vec<NameAndVersion>>>, Failure> {
    let mut found: BTreeMap<String, BTreeMap<String, Vec<NameAndVersion>>> = BTreeMap::new();
    let own = call.context.identity();
    for id in call.context.channels() {
        let Some(channel) = call.context.channel(&id) else {
            continue;
        };
        let snapshot = channel.ledger().snapshot().map_err(|e| e.to_string())?;
        for definition in query::definitions(&*snapshot)? {
            let Ok(resolved) = call
                .runtime
                .find_on(&snapshot, &id, &definition.name, own.msp_id())
            else {
                continue;
            };
            found
                .entry(resolved.package.package_id.clone())
                .or_default()
                .entry(id.clone())
                .or_default()
                .push((definition.name, definition.version));
        }
    }
    Ok(found)
}
