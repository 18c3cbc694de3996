// Fabric CA's official client, unmodified, against a Selvedge certificate authority (spec 07 §2). Reads its settings as
// JSON from the file named by its argument, prints one line a step, and ends with 0 when every step went as it must.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const FabricCAServices = require('fabric-ca-client');
const { User } = require('fabric-common');

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const tls = { trustedRoots: settings.tlsRoots.map((file) => fs.readFileSync(file, 'utf8')), verify: true };
const ca = new FabricCAServices(settings.url, tls, settings.caName);
const other = new FabricCAServices(settings.url, tls, settings.otherCaName);
const run = crypto.randomBytes(4).toString('hex');
const ATTRIBUTES = '1.2.3.4.5.6.7.8.1';

const user = (name, enrollment) =>
    User.createUser(name, '', settings.mspId, enrollment.certificate, enrollment.key.toBytes());

// The value of the attribute extension: JSON text that follows the encoded object id within a few bytes.
function attributes(certificate) {
    const der = new crypto.X509Certificate(certificate).raw;
    const oid = Buffer.from([0x06, 0x08, 0x2a, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x01]);
    const at = der.indexOf(oid);
    assert.ok(at >= 0, `no extension ${ATTRIBUTES}`);
    const text = der.subarray(der.indexOf('{"attrs":', at)).toString('latin1');
    return JSON.parse(text.slice(0, text.indexOf('}}') + 2)).attrs;
}

// Serial number and authority key as the client's users get them: from the certificate.
function handle(certificate) {
    const x509 = new crypto.X509Certificate(certificate);
    const der = x509.raw;
    const at = der.indexOf(Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x23]));
    // After the object id: OCTET STRING, SEQUENCE, [0] and its length, each of them short.
    const key = at + 11;
    return { serial: x509.serialNumber, aki: der.subarray(key, key + der[key - 1]).toString('hex') };
}

async function refused(promise, code) {
    await assert.rejects(promise, (error) => {
        assert.match(error.message, /failed with errors/);
        assert.equal(error.errors[0].code, code, error.message);
        return true;
    });
}

async function step(name, work) {
    const start = process.hrtime.bigint();
    const said = await work();
    console.log(`ok  ${name}${said ? `: ${said}` : ''} (${(process.hrtime.bigint() - start) / 1000000n} ms)`);
    return said;
}

async function main() {
    let admin, device, deviceCertificate;
    const id = `device-${run}`;
    const identities = ca.newIdentityService();
    const affiliations = ca.newAffiliationService();
    const certificates = ca.newCertificateService();

    await step('the administrator enrols', async () => {
        const enrollment = await ca.enroll({ enrollmentID: settings.admin, enrollmentSecret: settings.secret });
        assert.match(enrollment.rootCertificate, /BEGIN CERTIFICATE/);
        const leaf = new crypto.X509Certificate(enrollment.certificate);
        const chain = enrollment.rootCertificate.match(/-----BEGIN[^]*?-----END CERTIFICATE-----/g);
        assert.ok(leaf.verify(new crypto.X509Certificate(chain[0]).publicKey));
        admin = user(settings.admin, enrollment);
    });
    await step('says who it is', async () => {
        const info = await ca.getCaInfo(admin);
        assert.equal(info.caName, settings.caName);
    });

    await step('registers and enrols a user with attributes', async () => {
        const secret = await ca.register({
            enrollmentID: id,
            affiliation: 'org1.department1',
            role: 'client',
            maxEnrollments: 1,
            attrs: [{ name: 'line', value: '7', ecert: true }, { name: 'shift', value: 'night' }],
        }, admin);
        const enrollment = await ca.enroll({ enrollmentID: id, enrollmentSecret: secret });
        deviceCertificate = enrollment.certificate;
        device = user(id, enrollment);
        const found = attributes(enrollment.certificate);
        assert.equal(found.line, '7');
        assert.equal(found['hf.EnrollmentID'], id);
        assert.equal(found.shift, undefined);
        const { subject } = new crypto.X509Certificate(enrollment.certificate);
        for (const part of [`CN=${id}`, 'OU=client', 'OU=org1', 'OU=department1']) {
            assert.ok(subject.includes(part), `${part} in ${subject}`);
        }
        await refused(ca.enroll({ enrollmentID: id, enrollmentSecret: secret }), 20);
        await refused(ca.register({ enrollmentID: id, affiliation: 'org1', role: 'client' }, admin), 74);
    });
    await step('a profile and asked-for attributes', async () => {
        const name = `tls-${run}`;
        const secret = await ca.register({
            enrollmentID: name, affiliation: 'org1', role: 'peer', maxEnrollments: -1, attrs: [{ name: 'shift', value: 'day' }],
        }, admin);
        const enrollment = await ca.enroll({
            enrollmentID: name, enrollmentSecret: secret, profile: 'tls', attr_reqs: [{ name: 'shift' }, { name: 'none', optional: true }],
        });
        assert.deepEqual(attributes(enrollment.certificate), { shift: 'day' });
        assert.ok(new crypto.X509Certificate(enrollment.certificate).keyUsage.includes('1.3.6.1.5.5.7.3.1'));
        await refused(ca.enroll({ enrollmentID: name, enrollmentSecret: secret, attr_reqs: [{ name: 'none' }] }), 81);
    });
    await step('the user re-enrols', async () => {
        const again = await ca.reenroll(device, [{ name: 'shift', optional: false }]);
        assert.notEqual(handle(again.certificate).serial, handle(deviceCertificate).serial);
        assert.deepEqual(attributes(again.certificate), { shift: 'night' });
        device = user(id, again);
    });
    await step('the user is no registrar', async () => {
        await refused(ca.register({ enrollmentID: `x-${run}`, affiliation: 'org1', role: 'client' }, device), 71);
        await refused(identities.getAll(device), 71);
    });

    await step('identities: create, look, change, remove', async () => {
        const name = `clerk-${run}`;
        const secret = await identities.create({
            enrollmentID: name, affiliation: 'org1', type: 'client', maxEnrollments: 5, attrs: [{ name: 'desk', value: '1', ecert: true }],
        }, admin);
        assert.ok(secret);
        let one = (await identities.getOne(name, admin)).result;
        assert.equal(one.affiliation, 'org1');
        assert.equal(one.max_enrollments, 5);
        const wanted = { affiliation: 'org1.department1', attrs: [{ name: 'desk', value: '' }, { name: 'floor', value: '2' }], enrollmentSecret: 'changed-secret' };
        await identities.update(name, wanted, admin);
        one = (await identities.getOne(name, admin)).result;
        assert.equal(one.affiliation, 'org1.department1');
        const names = one.attrs.map((a) => a.name);
        assert.ok(names.includes('floor') && !names.includes('desk'));
        await ca.enroll({ enrollmentID: name, enrollmentSecret: 'changed-secret' });
        const all = (await identities.getAll(admin)).result.identities;
        assert.ok(all.some((i) => i.id === name) && all.some((i) => i.id === settings.admin));
        await identities.delete(name, admin, true);
        await refused(identities.getOne(name, admin), 63);
        return `${all.length} identities`;
    });
    await step('affiliations: create, look, change, remove', async () => {
        const top = `org-${run}`;
        await refused(affiliations.create({ name: `${top}.hall.desk` }, admin), 60);
        await affiliations.create({ name: `${top}.hall.desk`, force: true }, admin);
        await refused(affiliations.create({ name: top }, admin), 60);
        const tree = (await affiliations.getOne(top, admin)).result;
        assert.equal(tree.affiliations[0].affiliations[0].name, `${top}.hall.desk`);
        await affiliations.update(`${top}.hall`, { name: `${top}.yard` }, admin);
        const all = (await affiliations.getAll(admin)).result;
        const moved = all.affiliations.find((a) => a.name === top);
        assert.deepEqual(moved.affiliations.map((a) => a.name), [`${top}.yard`]);
        await refused(affiliations.delete({ name: top }, admin), 61);
        await affiliations.delete({ name: top, force: true }, admin);
        await refused(affiliations.getOne(top, admin), 63);
    });

    await step('certificates by owner, serial number and state', async () => {
        const of = async (request) => (await certificates.getCertificates(request, admin)).result.certs.map((c) => c.PEM);
        const own = await of({ id });
        assert.equal(own.length, 2);
        const { serial, aki } = handle(deviceCertificate);
        assert.deepEqual(await of({ serial, aki }), [deviceCertificate]);
        assert.ok((await of({ notexpired: true, notrevoked: true })).length >= 3);
        assert.deepEqual(await of({ id, revoked_start: '2020-01-01T00:00:00Z' }), []);
        return `${(await of({})).length} in all`;
    });
    await step('revokes one certificate, then the user; a revocation list', async () => {
        const first = handle(deviceCertificate);
        const one = await ca.revoke({ ...first, reason: 'superseded' }, admin);
        assert.equal(one.result.RevokedCerts.length, 1);
        await refused(ca.revoke({ ...first }, admin), 66);
        await refused(ca.revoke({ enrollmentID: 'nobody-at-all' }, admin), 10);
        const all = await ca.revoke({ enrollmentID: id, reason: 'keycompromise', gencrl: true }, admin);
        assert.equal(all.result.RevokedCerts.length, 1);
        const crl = await ca.generateCRL({}, admin);
        const text = Buffer.from(crl, 'base64').toString();
        assert.match(text, /BEGIN X509 CRL/);
        const der = Buffer.from(text.replace(/-----[^-]*-----|\s/g, ''), 'base64');
        assert.ok(der.includes(Buffer.from(first.serial, 'hex')), 'the serial number is in the list');
        await refused(ca.reenroll(device), 20);
        await refused(ca.generateCRL({ revokedBefore: new Date(2020, 0), revokedAfter: new Date(2021, 0) }, admin), 36);
        return `${der.length} bytes`;
    });

    await step('the intermediate authority of the same server', async () => {
        const enrollment = await other.enroll({ enrollmentID: settings.admin, enrollmentSecret: settings.otherSecret });
        const chain = enrollment.rootCertificate.match(/-----BEGIN[^]*?-----END CERTIFICATE-----/g)
            .map((pem) => new crypto.X509Certificate(pem));
        assert.equal(chain.length, 2);
        assert.ok(new crypto.X509Certificate(enrollment.certificate).verify(chain[0].publicKey));
        assert.ok(chain[0].verify(chain[1].publicKey));
        // Who is known there is not known here.
        const stranger = user(settings.admin, enrollment);
        await refused(identities.getAll(stranger), 20);
        const nowhere = new FabricCAServices(settings.url, tls, 'no-such-ca');
        await refused(nowhere.enroll({ enrollmentID: settings.admin, enrollmentSecret: settings.secret }), 19);
    });
}

main().then(() => console.log('all steps passed'), (error) => {
    console.error(error);
    process.exit(1);
});
