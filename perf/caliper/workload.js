'use strict';

// Calls the contract `chaincode/bench`: `put` writes a new key with every transaction, `get` reads one that the worker wrote
// before the round.

const { WorkloadModuleBase } = require('@hyperledger/caliper-core');

const CONTRACT = 'bench';

class BenchWorkload extends WorkloadModuleBase {
    constructor() {
        super();
        this.count = 0;
    }

    async initializeWorkloadModule(workerIndex, totalWorkers, roundIndex, roundArguments, sutAdapter, sutContext) {
        await super.initializeWorkloadModule(
            workerIndex, totalWorkers, roundIndex, roundArguments, sutAdapter, sutContext);
        this.operation = roundArguments.operation;
        this.value = 'v'.repeat(roundArguments.valueBytes);
        // Keys of a round that was run before on the same network must not be hit again.
        this.prefix = `c${Date.now()}.${workerIndex}.${roundIndex}`;
        if (this.operation === 'get') {
            await this.call('put', [this.prefix, this.value], false);
        }
    }

    async call(contractFunction, contractArguments, readOnly) {
        await this.sutAdapter.sendRequests({
            contractId: CONTRACT,
            contractFunction,
            contractArguments,
            readOnly,
        });
    }

    async submitTransaction() {
        if (this.operation === 'get') {
            await this.call('get', [this.prefix], true);
            return;
        }
        this.count += 1;
        await this.call('put', [`${this.prefix}.${this.count}`, this.value], false);
    }
}

module.exports.createWorkloadModule = () => new BenchWorkload();
