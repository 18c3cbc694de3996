// Fabric's official CA client and gateway client together, both unmodified: somebody enrols at a Selvedge certificate
// authority with the one, and transacts on the network with the other. Reads its settings as JSON from the file named by
// its argument, prints one line a step, and ends with 0 when every step went as it must.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const { connect, hash, signers, EndorseError } = require('@hyperledger/fabric-gateway');
const FabricCAServices = require('fabric-ca-client');
const { User } = require('fabric-common');

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const read = (file) => fs.readFileSync(file, 'utf8');
const ca = new FabricCAServices(settings.caUrl, { trustedRoots: [read(settings.tlsRoot)], verify: true }, settings.caName);
const deadline = (ms) => () => ({ deadline: Date.now() + ms });
const utf8 = new TextDecoder();

async function step(name, work) {
    const done = await work();
    console.log(`ok ${name}`);
    return done;
}

async function member(admin, id, attrs) {
    const enrollmentSecret = await ca.register({ enrollmentID: id, affiliation: '', role: 'client', attrs }, admin);
    return ca.enroll({ enrollmentID: id, enrollmentSecret });
}

function contractOf(client, enrollment) {
    const gateway = connect({
        client,
        hash: hash.sha256,
        identity: { mspId: settings.mspId, credentials: Buffer.from(enrollment.certificate) },
        signer: signers.newPrivateKeySigner(crypto.createPrivateKey(enrollment.key.toBytes())),
        evaluateOptions: deadline(15000),
        endorseOptions: deadline(30000),
        submitOptions: deadline(15000),
        commitStatusOptions: deadline(60000),
    });
    return { gateway, contract: gateway.getNetwork(settings.channel).getContract('rfq') };
}

async function main() {
    const client = new grpc.Client(settings.address, grpc.credentials.createSsl(fs.readFileSync(settings.tlsRoot)), {
        'grpc.ssl_target_name_override': settings.serverName,
    });
    const enrolled = await step('the administrator, a trader and a sensor enrol', async () => {
        const first = await ca.enroll({ enrollmentID: 'admin', enrollmentSecret: settings.secret });
        const admin = User.createUser('admin', '', settings.mspId, first.certificate, first.key.toBytes());
        return {
            trader: await member(admin, 'trader', [{ name: 'desk', value: '7', ecert: true }]),
            sensor: await member(admin, 'sensor', [{ name: 'selvedge.device', value: 'true', ecert: true }]),
        };
    });
    const offer = (id) => JSON.stringify({
        id, item: 'Stainless Steel Cutting', price: 20, quantity: 200, currency: 'USD', conditions: [], target: settings.target,
    });
    const trader = contractOf(client, enrolled.trader);
    const sensor = contractOf(client, enrolled.sensor);
    await step('the trader makes an offer, which is committed under its name', async () => {
        await trader.contract.submitTransaction('offer', offer('rfq-npm'));
        const text = utf8.decode(await trader.contract.evaluateTransaction('history', 'rfq-npm'));
        assert.match(text, /"user":"trader"/, text);
    });
    await step('the contract reads the sensor\'s attribute and refuses it', async () => {
        await assert.rejects(sensor.contract.submitTransaction('offer', offer('rfq-sensor')), (error) => {
            assert.ok(error instanceof EndorseError, error);
            const said = `${error.message} ${error.details.map((d) => d.message).join(' ')}`;
            assert.match(said, /sensor is enrolled as a device/, said);
            return true;
        });
    });
    trader.gateway.close();
    sensor.gateway.close();
    client.close();
    console.log('all steps passed');
}

main().catch((error) => {
    console.error(error);
    process.exit(1);
});
