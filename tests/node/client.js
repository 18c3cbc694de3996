// Fabric's official client, unmodified, against a Selvedge network (spec 07 §1). Reads its settings as JSON from the file
// named by its argument, prints one line a step, and ends with 0 when every step went as it must.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const {
    checkpointers, connect, hash, signers, CommitError, CommitStatusError, EndorseError, GatewayError, StatusCode,
} = require('@hyperledger/fabric-gateway');

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const utf8 = new TextDecoder();
const run = crypto.randomBytes(4).toString('hex');
let keys = 0;
const newKey = () => `node-${run}-${++keys}`;

function grpcClient() {
    return new grpc.Client(
        settings.address,
        grpc.credentials.createSsl(fs.readFileSync(settings.tlsRoot)),
        { 'grpc.ssl_target_name_override': settings.serverName },
    );
}

const identity = { mspId: settings.mspId, credentials: fs.readFileSync(settings.certificate) };
const privateKey = crypto.createPrivateKey(fs.readFileSync(settings.key));
const deadline = (ms) => () => ({ deadline: Date.now() + ms });
const limits = {
    evaluateOptions: deadline(15000),
    endorseOptions: deadline(30000),
    submitOptions: deadline(15000),
    commitStatusOptions: deadline(60000),
};

function gatewayWith(client, options) {
    return connect({ client, identity, hash: hash.sha256, ...limits, ...options });
}

// The first n items of a stream; the stream is closed.
async function take(stream, n) {
    const items = [];
    try {
        for await (const item of stream) {
            items.push(item);
            if (items.length === n) {
                break;
            }
        }
    } finally {
        stream.close();
    }
    return items;
}

async function step(name, work) {
    const timer = setTimeout(() => {
        console.error(`step took too long: ${name}`);
        process.exit(2);
    }, 60000);
    try {
        await work();
    } catch (error) {
        console.error(`step failed: ${name}`);
        throw error;
    } finally {
        clearTimeout(timer);
    }
    console.log(`ok ${name}`);
}

async function fails(work, kind, check) {
    let error;
    try {
        await work();
    } catch (caught) {
        error = caught;
    }
    assert.ok(error, 'should have failed');
    assert.ok(error instanceof kind, `${error.constructor.name} instead of ${kind.name}: ${error}`);
    check(error);
}

async function main() {
    const client = grpcClient();
    const gateway = gatewayWith(client, { signer: signers.newPrivateKeySigner(privateKey) });
    const network = gateway.getNetwork(settings.channel);
    const probe = network.getContract('probe');

    await step('submit and evaluate', async () => {
        const key = newKey();
        assert.equal(utf8.decode(await probe.submitTransaction('put', key, 'value')), key);
        assert.equal(utf8.decode(await probe.evaluateTransaction('get', key)), 'value');
    });

    await step('submit with both organisations, arguments as bytes', async () => {
        const key = newKey();
        await probe.submit('put', { arguments: [key, Buffer.from([0, 255, 128])], endorsingOrganizations: settings.organisations });
        assert.deepEqual([...await probe.evaluateTransaction('get', key)], [0, 255, 128]);
    });

    await step('transient data do not hurt', async () => {
        const key = newKey();
        await probe.submit('put', { arguments: [key, '1'], transientData: { secret: Buffer.from('x') } });
    });

    let first;
    await step('submit without waiting, then the commit status', async () => {
        first = await probe.submitAsync('event', { arguments: [`started-${run}`, 'payload 1'] });
        assert.equal(utf8.decode(first.getResult()), `started-${run}`);
        const status = await first.getStatus();
        assert.equal(status.successful, true);
        assert.equal(status.code, StatusCode.VALID);
        assert.equal(status.transactionId, first.getTransactionId());
        first.blockNumber = status.blockNumber;
    });

    await step('chaincode events from a block on', async () => {
        const second = await probe.submitAsync('event', { arguments: ['second', 'payload 2'] });
        await second.getStatus();
        const events = await take(await network.getChaincodeEvents('probe', { startBlock: first.blockNumber }), 2);
        assert.deepEqual(events.map((e) => [e.eventName, utf8.decode(e.payload), e.chaincodeName]), [
            [`started-${run}`, 'payload 1', 'probe'],
            ['second', 'payload 2', 'probe'],
        ]);
        assert.equal(events[0].transactionId, first.getTransactionId());
        assert.equal(events[0].blockNumber, first.blockNumber);
        assert.equal(events[1].transactionId, second.getTransactionId());

        const checkpointer = checkpointers.inMemory();
        await checkpointer.checkpointChaincodeEvent(events[0]);
        const [next] = await take(await network.getChaincodeEvents('probe', { checkpoint: checkpointer }), 1);
        assert.equal(next.transactionId, second.getTransactionId());
    });

    await step('chaincode events from now on', async () => {
        const stream = await network.getChaincodeEvents('probe');
        const waiting = take(stream, 1);
        const name = `now-${run}`;
        // The stream may be opened after the first of them has committed: more follow.
        const timer = setInterval(() => probe.submitTransaction('event', name, 'x').catch(() => {}), 200);
        const [event] = await waiting;
        clearInterval(timer);
        assert.equal(event.eventName, name);
    });

    await step('whole blocks, filtered blocks, blocks with private data', async () => {
        const startBlock = first.blockNumber;
        const [block, after] = await take(await network.getBlockEvents({ startBlock }), 2);
        assert.equal(BigInt(block.getHeader().getNumber()), startBlock);
        assert.equal(BigInt(after.getHeader().getNumber()), startBlock + 1n);
        assert.ok(block.getData().getDataList().length > 0);
        assert.equal(block.getMetadata().getMetadataList().length, 5);

        const [filtered] = await take(await network.getFilteredBlockEvents({ startBlock }), 1);
        assert.equal(filtered.getChannelId(), settings.channel);
        const found = filtered.getFilteredTransactionsList().find((t) => t.getTxid() === first.getTransactionId());
        assert.ok(found, 'the transaction is in its filtered block');
        assert.equal(found.getTxValidationCode(), StatusCode.VALID);
        const event = found.getTransactionActions().getChaincodeActionsList()[0].getChaincodeEvent();
        assert.equal(event.getEventName(), `started-${run}`);
        assert.equal(event.getPayload_asU8().length, 0, 'filtered events carry no payload');

        const [withData] = await take(await network.getBlockAndPrivateDataEvents({ startBlock }), 1);
        assert.equal(BigInt(withData.getBlock().getHeader().getNumber()), startBlock);

        const checkpointer = checkpointers.inMemory();
        await checkpointer.checkpointBlock(startBlock);
        const [resumed] = await take(await network.getFilteredBlockEvents({ checkpoint: checkpointer }), 1);
        assert.equal(BigInt(resumed.getNumber()), startBlock + 1n);
    });

    await step('offline signing of every message', () => offline(client));

    await step('a contract refuses', async () => {
        await fails(() => probe.submitTransaction('fail'), EndorseError, (error) => {
            assert.equal(error.code, grpc.status.ABORTED);
            assert.ok(error.transactionId);
            assert.ok(error.details.length > 0);
            assert.equal(error.details[0].mspId, settings.mspId);
            assert.match(error.details[0].address, /:\d+$/);
            assert.match(error.details[0].message, /^chaincode response 500, as told/);
        });
        await fails(() => probe.evaluateTransaction('get', 'nothing'), GatewayError, (error) => {
            assert.equal(error.code, grpc.status.UNKNOWN);
            assert.match(error.message, /evaluate call to endorser returned error: chaincode response 404, no such key/);
            assert.match(error.details[0].message, /^chaincode response 404, no such key/);
        });
        const rfq = network.getContract('rfq');
        await fails(() => rfq.submitTransaction('accept', 'rfq-404'), EndorseError, (error) => {
            assert.match(error.details[0].message, /^chaincode response 404, .*rfq-404/);
        });
    });

    await step('a chaincode, a channel and an organisation that are not there', async () => {
        const nothing = network.getContract('nothing');
        await fails(() => nothing.evaluateTransaction('f'), GatewayError, (error) => {
            assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
            assert.match(error.message, /no peers available to evaluate chaincode nothing in channel/);
        });
        await fails(() => nothing.submitTransaction('f'), EndorseError, (error) => {
            assert.equal(error.code, grpc.status.FAILED_PRECONDITION);
        });
        const elsewhere = gateway.getNetwork('elsewhere');
        await fails(() => elsewhere.getContract('probe').evaluateTransaction('get', 'k'), GatewayError, (error) => {
            assert.equal(error.code, grpc.status.UNAVAILABLE);
            assert.match(error.message, /elsewhere/);
        });
        await fails(async () => take(await elsewhere.getBlockEvents(), 1), Error, (error) => {
            assert.match(error.message, /Unexpected status response: 404/);
        });
        const options = { arguments: [newKey(), '1'], endorsingOrganizations: ['Org9MSP'] };
        await fails(() => probe.submit('put', options), EndorseError, (error) => {
            assert.equal(error.code, grpc.status.UNAVAILABLE);
            assert.match(error.message, /Org9MSP/);
        });
    });

    await step('a race is lost with a code', async () => {
        const key = newKey();
        const endorsed = [];
        for (const value of ['1', '2']) {
            endorsed.push(await probe.newProposal('add', { arguments: [key, value] }).endorse());
        }
        const winner = await endorsed[0].submit();
        assert.equal((await winner.getStatus()).successful, true);
        const loser = await endorsed[1].submit();
        const status = await loser.getStatus();
        assert.equal(status.successful, false);
        assert.equal(status.code, StatusCode.MVCC_READ_CONFLICT);
        const race = newKey();
        const results = await Promise.allSettled(
            Array.from({ length: 6 }, (_, i) => probe.submitTransaction('add', race, String(i))),
        );
        assert.ok(results.some((r) => r.status === 'fulfilled'));
        for (const { reason } of results.filter((r) => r.status === 'rejected')) {
            assert.ok(reason instanceof CommitError, String(reason));
            assert.equal(reason.code, StatusCode.MVCC_READ_CONFLICT);
            assert.match(reason.message, /failed to commit with status code 11 \(MVCC_READ_CONFLICT\)/);
        }
    });

    await step('a wrong key', async () => {
        const { privateKey: stranger } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
        const pretender = gatewayWith(client, { signer: signers.newPrivateKeySigner(stranger) });
        const contract = pretender.getNetwork(settings.channel).getContract('probe');
        await fails(() => contract.submitTransaction('put', newKey(), '1'), EndorseError, (error) => {
            assert.match(error.details[0].message, /access denied: channel \[.*\] creator org \[/);
        });
        // Endorsed with the right key, signed for ordering with the wrong one.
        const transaction = await probe.newProposal('put', { arguments: [newKey(), '1'] }).endorse();
        const forged = pretender.newSignedTransaction(
            transaction.getBytes(), crypto.sign('sha256', Buffer.from('something else'), stranger));
        await fails(() => forged.submit(), GatewayError, (error) => {
            assert.equal(error.constructor.name, 'SubmitError');
            assert.equal(error.code, grpc.status.ABORTED);
            assert.match(error.message, /received unsuccessful response from orderer: status=FORBIDDEN/);
        });
        await fails(async () => {
            const commit = await (await probe.newProposal('put', { arguments: [newKey(), '1'] }).endorse()).submit();
            await pretender.newSignedCommit(commit.getBytes(), Buffer.from('no signature')).getStatus();
        }, CommitStatusError, (error) => {
            assert.equal(error.code, grpc.status.PERMISSION_DENIED);
        });
        pretender.close();
    });

    await step('a deadline that has passed', async () => {
        await fails(() => probe.newProposal('loop').endorse({ deadline: Date.now() + 300 }), EndorseError, (error) => {
            assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
        });
    });

    gateway.close();
    client.close();
}

// Every message is made by a gateway without a key, signed here, and sent by it.
async function offline(client) {
    const sign = signers.newPrivateKeySigner(privateKey);
    const keyless = gatewayWith(client, {});
    const network = keyless.getNetwork(settings.channel);
    const contract = network.getContract('probe');

    const key = newKey();
    const unsigned = contract.newProposal('put', { arguments: [key, 'offline'] });
    const proposal = keyless.newSignedProposal(unsigned.getBytes(), await sign(unsigned.getDigest()));
    const endorsed = await proposal.endorse();
    const transaction = keyless.newSignedTransaction(endorsed.getBytes(), await sign(endorsed.getDigest()));
    const submitted = await transaction.submit();
    const commit = keyless.newSignedCommit(submitted.getBytes(), await sign(submitted.getDigest()));
    const status = await commit.getStatus();
    assert.equal(status.successful, true);

    const query = contract.newProposal('get', { arguments: [key] });
    const signedQuery = keyless.newSignedProposal(query.getBytes(), await sign(query.getDigest()));
    assert.equal(utf8.decode(await signedQuery.evaluate()), 'offline');

    const wanted = network.newFilteredBlockEventsRequest({ startBlock: status.blockNumber });
    const signed = keyless.newSignedFilteredBlockEventsRequest(wanted.getBytes(), await sign(wanted.getDigest()));
    const [block] = await take(await signed.getEvents(), 1);
    assert.equal(BigInt(block.getNumber()), status.blockNumber);

    const events = network.newChaincodeEventsRequest('probe', { startBlock: 0n });
    const signedEvents = keyless.newSignedChaincodeEventsRequest(events.getBytes(), await sign(events.getDigest()));
    assert.equal((await take(await signedEvents.getEvents(), 1)).length, 1);
    keyless.close();
}

main().then(
    () => console.log('all steps passed'),
    (error) => {
        console.error(error);
        process.exit(1);
    },
);
