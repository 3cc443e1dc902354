# %% [markdown]
# # seven_sdes

# %%
print(1)
