// Microphone sound as int16 samples, in pieces of about 40 ms: an audio worklet.

const PIECE_S = 0.04;

registerProcessor(
  "microphone",
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.piece = new Int16Array(Math.round(sampleRate * PIECE_S));
      this.filled = 0;
    }

    process([input]) {
      const [samples] = input;
      if (!samples) return true;
      for (const sample of samples) {
        this.piece[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
        if (this.filled === this.piece.length) {
          this.port.postMessage(this.piece.buffer.slice(0));
          this.filled = 0;
        }
      }
      return true;
    }
  },
);
