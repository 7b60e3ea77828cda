"""A trained model as a folder for other programs: PEFT and vLLM, transformers, llama.cpp."""
